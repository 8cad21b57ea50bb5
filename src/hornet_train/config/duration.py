"""Durations with a unit: `300ep`, `5%`, `1500it`. Resolved to steps once, when the data are known."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

Unit = Literal["ep", "it", "%"]

_PATTERN = re.compile(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)\s*(ep|it|%)")


@dataclass(frozen=True)
class Duration:
    """A length of training.

    Attributes:
        value: at least 0.
        unit: `ep` epochs, `it` steps (iterations), `%` of the whole run.
    """

    value: float
    unit: Unit

    @classmethod
    def parse(cls, text: str) -> Duration:
        """From `<number><unit>`.

        Raises:
            ValueError: it is not of that form.
        """
        match = _PATTERN.fullmatch(text.strip())
        if match is None:
            raise ValueError(
                "a duration is a number with its unit: 20ep (epochs), 1500it (steps) or 5% (of the run)"
            )
        unit: Unit = match[2]  # type: ignore[assignment]
        value = float(match[1])
        if not math.isfinite(value):
            raise ValueError("a duration has an end")
        if unit == "it" and value != int(value):
            raise ValueError("a duration in it (steps) is a whole number")
        if unit == "%" and value > 100:
            raise ValueError("a duration in % of the run is at most 100%")
        return cls(value, unit)

    def steps(self, *, steps_per_epoch: int, total_steps: int | None = None) -> int:
        """The duration in steps, to the nearest one.

        Raises:
            ValueError: a share of the run is asked for while the run's own length is being worked out.
        """
        if self.unit == "it":
            return int(self.value)
        if self.unit == "ep":
            return round(self.value * steps_per_epoch)
        if total_steps is None:
            raise ValueError("the length of a run cannot be a share of itself: give it in ep or it")
        return round(self.value / 100 * total_steps)

    def __str__(self) -> str:
        return f"{self.value:g}{self.unit}" if self.value < 1e5 else f"{int(self.value)}{self.unit}"
