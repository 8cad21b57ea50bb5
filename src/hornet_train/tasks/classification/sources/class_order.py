"""The order of classes that are known by their names: as text, or as people count."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from hornet_train.data.sources.listing import preview

ClassOrder = Literal["sorted", "natural"]


def in_class_order(names: Iterable[str], order: ClassOrder) -> tuple[str, ...]:
    """Names in label order: `sorted` as text (1, 10, 2), `natural` with numbers by their value (1, 2, 10)."""
    names = list(names)
    if order == "sorted":
        return tuple(sorted(names))
    return tuple(sorted(names, key=_value if _are_whole_numbers(names) else _natural))


def _are_whole_numbers(names: Iterable[str]) -> bool:
    return all(re.fullmatch("-?[0-9]+", name) for name in names)


def _value(name: str) -> tuple[int, str]:
    """A minus is a sign only where all names are numbers."""
    return int(name), name


def _natural(name: str) -> tuple[list[tuple[int, str]], str]:
    """Text and numbers in turns; names that differ in leading zeros only are ordered as text."""
    parts = re.split("([0-9]+)", name)
    return [(int(part), "") if place % 2 else (0, part) for place, part in enumerate(parts)], name


def order_notes(names: tuple[str, ...], order: ClassOrder) -> list[str]:
    """A sentence where classes are mere numbers and their order as text is not that of the numbers."""
    counted = in_class_order(names, "natural")
    if not _are_whole_numbers(names) or counted == in_class_order(names, "sorted"):
        return []
    if order == "natural":
        return [f"classes are numbers, in the order of their values: {preview(counted)}"]
    return [
        f"classes are numbers, and in the order of text: {preview(names)}; data.class_order=natural takes "
        f"{preview(counted)}"
    ]
