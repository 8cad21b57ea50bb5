"""Durations with a unit: `300ep`, `5%`, `1500it`. Resolved to steps once, when the data are known."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Unit = Literal["ep", "it", "%"]

_PATTERN = re.compile(r"(.*?)\s*(ep|it|%)?")  # whether the first part is a number, float() says
_GREATEST = 1e15  # up to which a float can distinguish all whole numbers


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
    def parse(cls, text: str, *, of_run: bool = False) -> Duration:
        """From `<number><unit>`; `parse(str(duration))` is that duration again.

        Args:
            text: what is written.
            of_run: whether it is the length of a run, for which a number without a unit is epochs.

        Raises:
            ValueError: it is not of that form, or no duration has such a number.
        """
        forms = (
            "20ep (epochs) or 1500it (steps)"
            if of_run
            else "20ep (epochs), 1500it (steps) or 5% (of the run)"
        )
        number, written = _split(text)
        if number is None:
            raise ValueError(f"a duration is a number with its unit: {forms}")
        if not 0 <= number <= _GREATEST:  # nan too
            raise ValueError(f"the number of a duration is 0 or more, and at most 1e15: {forms}")
        if written is None and not of_run:
            raise ValueError(f"a duration has a unit: {_with_units(number)}")
        unit = written or "ep"
        if unit == "it" and not number.is_integer():
            raise ValueError("a duration in it (steps) is a whole number")
        if unit == "%" and number > 100:
            raise ValueError("a duration in % of the run is at most 100%")
        return cls(number, unit)

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
        """The shortest text that `parse` reads as this duration: a stored config makes the same run again."""
        return f"{self.value!r}".removesuffix(".0") + self.unit


def _split(text: str) -> tuple[float | None, Unit | None]:
    """The number of a duration, None for what is no number, and its unit, None where there is none."""
    match = _PATTERN.fullmatch(text.strip())
    if match is None:
        return None, None
    unit: Unit | None = match[2]  # type: ignore[assignment]
    try:
        return float(match[1]) + 0.0, unit  # -0.0 is 0.0
    except ValueError:
        return None, unit


def _with_units(number: float) -> str:
    """The durations that a number without a unit may have been meant as."""
    meant = [f"{Duration(number, 'ep')} (epochs)"]
    if number.is_integer():
        meant.append(f"{Duration(number, 'it')} (steps)")
    if number <= 100:
        meant.append(f"{Duration(number, '%')} (of the run)")
    return " or ".join(filter(None, [", ".join(meant[:-1]), meant[-1]]))
