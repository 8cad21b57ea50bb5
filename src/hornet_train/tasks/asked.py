"""What a prediction is asked for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import count, takewhile


@dataclass(frozen=True)
class Asked:
    """What a prediction is asked for beyond the checkpoint's own settings; None: the task's default.

    Several views of a picture are asked about one by one, and the answers put together.

    Attributes:
        top: how many classes an answer has.
        threshold: probability or score, 0..1, below which nothing is said.
        flip: whether the mirror image of each view is one, too.
        scales: factors of the size at which a picture is seen.
        crops: parts of a picture that are seen: 1, the middle, or 5, with the corners.
    """

    top: int | None = None
    threshold: float | None = None
    flip: bool = False
    scales: tuple[float, ...] | None = None
    crops: int | None = None


def view_name(number: int) -> str:
    """The field of a sample with one of the views of its picture, 0 being the first."""
    return f"image{number}" if number else "image"


def view_names(fields: Collection[str]) -> list[str]:
    """Those of a sample or batch, in order."""
    return list(takewhile(lambda name: name in fields, map(view_name, count())))
