"""The settings of the training loop, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field

from hornet_train.engine.guard import GuardSettings
from hornet_train.engine.precision import PrecisionName


@dataclass(frozen=True)
class Settings:
    """How a run is trained. Each `*_every` is a number of steps, counted from the start of the run.

    Attributes:
        total_steps: the run's length, if all its steps are of one size (see `Calendar`).
        in_steps: whether the length is given in steps, and so does not change with their size.
        max_bad: greatest share of the training samples that may be damaged.
    """

    seed: int
    total_steps: int
    log_every: int
    eval_every: int
    checkpoint_every: int
    eval_batch_size: int
    precision: PrecisionName
    clip_grad: float | None
    max_bad: float = 0.001
    in_steps: bool = False
    guard: GuardSettings = field(default_factory=GuardSettings)
