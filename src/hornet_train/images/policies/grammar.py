"""Parse timm's grammar of policies: a head, then parts of letters and a number, joined by dashes."""

from __future__ import annotations

import re
from collections.abc import Mapping

Bounds = tuple[float, float]

_PART = re.compile(r"([a-z]+)(\d+(?:\.\d+)?)")


def read_parts(text: str, parts: Mapping[str, Bounds], *, fractions: tuple[str, ...]) -> dict[str, float]:
    """The numbers in a text such as `head-a1-b0.5`.

    Args:
        text: a head and its parts, joined by dashes.
        parts: the letters of each known part -> its lowest and highest number.
        fractions: the letters of parts whose number may have a fraction.

    Returns:
        Letters -> number, for the parts in `text`.

    Raises:
        ValueError: a part is unknown or repeated, or its number is out of range; the message names it.
    """
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
