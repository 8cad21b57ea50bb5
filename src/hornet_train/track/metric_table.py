"""The metrics of a task: their names, how they are printed, and whether more or less is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MetricInfo:
    """One metric.

    Attributes:
        key: its name in eval events: `top1`.
        label: its name in figures and tables: `top-1`.
        percent: whether its values are percentages.
        direction: "max" if more is better, "min" if less is.
        detail: whether it stands in files alone, not in the lines of a training and its curves.
    """

    key: str
    label: str
    percent: bool = False
    direction: Literal["max", "min"] = "max"
    detail: bool = False

    def better(self, value: float, than: float | None) -> bool:
        """Whether `value` beats `than`; any number beats None, and NaN beats nothing."""
        if value != value:
            return False
        return than is None or (value > than if self.direction == "max" else value < than)


@dataclass(frozen=True)
class MetricTable:
    """The metrics of a task; the first is the headline, by which the best checkpoint is chosen."""

    rows: tuple[MetricInfo, ...] = ()

    @property
    def headline(self) -> MetricInfo:
        """The metric that decides which checkpoint is the best.

        Raises:
            ValueError: the table is empty.
        """
        if not self.rows:
            raise ValueError("a MetricTable without metrics has none to choose the best checkpoint by")
        return self.rows[0]

    def info(self, key: str) -> MetricInfo:
        """The row of a key. An unknown key is a plain number, labelled by its words; more is better."""
        return next((row for row in self.rows if row.key == key), MetricInfo(key, key.replace("_", " ")))

    def headline_first(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """The same metrics, with those of the table first, in its order."""
        known = [row.key for row in self.rows if row.key in metrics]
        return {key: metrics[key] for key in (*known, *(key for key in metrics if key not in known))}


NO_METRICS = MetricTable()
