"""What a run remembers of steps that went wrong; part of its state, and so of each checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from hornet_train.engine.unlogged import is_count, is_number


@dataclass
class FaultHistory:
    """Skipped steps, returns to a checkpoint, and the running mean of the loss.

    The attributes have the names of the keys in `state.json`.

    Attributes:
        streak: skipped steps since the last good one, without overflows.
        overflows: steps since the last good one whose gradient was too large for fp16.
        since: the first step of `streak` and `overflows`.
        mean: running mean of the loss over the latest good steps.
        seen: number of good steps that went into `mean`.
        rollbacks: how often the run went back to a checkpoint.
        targets: the steps it went back to.
        left_out: ranges [first, end) of steps that are not trained, in rising order.
        rate: factor on the learning rate of the schedule.
    """

    streak: int = 0
    overflows: int = 0
    since: int = 0
    mean: float = 0.0
    seen: int = 0
    rollbacks: int = 0
    targets: list[int] = field(default_factory=list)
    left_out: list[tuple[int, int]] = field(default_factory=list)
    rate: float = 1.0

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> FaultHistory:
        """From the JSON form of `asdict`. Checkpoints of older versions lack some keys."""
        values = {**saved, "left_out": [(first, end) for first, end in saved.get("left_out", ())]}
        if "since" not in saved:  # it is not known where the streak began, so it counts from here
            values["streak"] = 0
        return cls(**values)

    def leaves_out(self, step: int) -> bool:
        """Whether a step is not trained."""
        return any(first <= step < end for first, end in self.left_out)

    def next_step(self, step: int, total: int) -> int:
        """The first step from `step` on that is trained; `total` if there is none."""
        for first, end in self.left_out:
            if first <= step < end:
                step = min(end, total)
        return step

    def ranges_to_train(self, first: int, total: int) -> Iterator[tuple[int, int]]:
        """The steps from `first` to `total` that are trained, as ranges [first, end)."""
        for gap, end in [*self.left_out, (total, total)]:
            if first < gap:
                yield first, gap
            first = max(first, end)


def is_fault_history(value: object) -> bool:
    """Whether a value read from an untrusted file is the JSON form of a `FaultHistory`."""
    if not isinstance(value, dict) or not value.keys() <= {field.name for field in fields(FaultHistory)}:
        return False
    value = {**asdict(FaultHistory()), **value}
    targets, ranges = value["targets"], value["left_out"]
    return (
        all(is_count(value[name]) for name in ("streak", "overflows", "since", "seen", "rollbacks"))
        and all(is_number(value[name]) for name in ("mean", "rate"))
        and isinstance(targets, list)
        and all(map(is_count, targets))
        and isinstance(ranges, list)
        and all(isinstance(one, list) and len(one) == 2 and all(map(is_count, one)) for one in ranges)
    )
