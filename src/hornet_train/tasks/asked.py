"""What a prediction is asked for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Asked:
    """What a prediction is asked for beyond the checkpoint's own settings; None: the task's default.

    Attributes:
        top: how many classes an answer has.
        threshold: probability or score, 0..1, below which nothing is said.
    """

    top: int | None = None
    threshold: float | None = None
