"""Parse timm's grammar of policies: a head, then parts of letters and a number, joined by dashes."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from hornet_train.errors import did_you_mean

Bounds = tuple[float, float]

_PART = re.compile(r"([a-z]+)(\d+(?:\.\d+)?)")


def read_parts(
    text: str, heads: Collection[str], parts: Mapping[str, Bounds], *, fractions: tuple[str, ...]
) -> dict[str, float]:
    """The numbers in a text such as `head-a1-b0.5`.

    Args:
        text: a head and its parts, joined by dashes.
        heads: what the text may start with.
        parts: the letters of each known part -> its lowest and highest number.
        fractions: the letters of parts whose number may have a fraction.

    Returns:
        Letters -> number, for the parts in `text`.

    Raises:
        ValueError: the head is another, a part is unknown or repeated, or a number is out of range. It says
            which.
    """
    head = text.split("-")[0]
    if head not in heads:
        raise ValueError(f"{text!r} starts with {head!r}, which is not a policy; {did_you_mean(head, heads)}")
    values: dict[str, float] = {}
    for part in text.split("-")[1:]:
        match = _PART.fullmatch(part)
        key = match[1] if match else part
        if match is None or key not in parts:
            known = f"parts are {', '.join(parts)} with a number" if parts else "it takes no parts"
            raise ValueError(f"{part!r} of {text!r} is unknown; {known}")
        if key in values:
            raise ValueError(f"{part!r} of {text!r} is given twice")
        if "." in match[2] and key not in fractions:
            raise ValueError(f"{part!r} of {text!r} needs a whole number")
        lowest, highest = parts[key]
        value = float(match[2])
        if not lowest <= value <= highest:
            raise ValueError(f"{part!r} of {text!r} is out of range {lowest:g}..{highest:g}")
        values[key] = value
    return values
