"""The part of timm's grammar that policies share: a head, then letters with a number, by dashes."""

from __future__ import annotations

import re
from collections.abc import Mapping

Bounds = tuple[float, float]

_PART = re.compile(r"([a-z]+)(\d+(?:\.\d+)?)")


def read_parts(text: str, parts: Mapping[str, Bounds], *, fractions: tuple[str, ...]) -> dict[str, float]:
    """The numbers of `head-a1-b0.5`.

    Args:
        text: head and parts.
        parts: letters -> least and greatest number.
        fractions: letters whose number need not be whole.

    Returns:
        Letters -> number, of the parts that are there.

    Raises:
        ValueError: a part that is unknown or repeated, or whose number does not fit; named.
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
        least, most = parts[key]
        value = float(match[2])
        if not least <= value <= most:
            raise ValueError(f"{part!r} of {text!r} is out of range {least:g}..{most:g}")
        values[key] = value
    return values
