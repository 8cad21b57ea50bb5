"""Learning-rate schedules: pure functions of the step, which counts from 0.

Each has a linear warmup from 0 to the peak, both inclusive, over its first `warmup` steps, as in the
published training code (a linspace of `warmup` values). Then it decays over the other `total - warmup` steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def _with_warmup(peak: float, total: int, warmup: int, decay: Callable[[int, int], float]) -> Schedule:
    """Warmup, then `decay(step after the warmup, number of such steps)`."""
    if not 0 <= warmup <= total:
        raise ValueError(f"a warmup of {warmup} steps does not fit into {total} steps")

    def schedule(step: int) -> float:
        if step < warmup:
            return peak * step / (warmup - 1) if warmup > 1 else peak
        return decay(step - warmup, total - warmup)

    return schedule


def cosine(*, peak: float, total: int, warmup: int = 0, floor: float = 0.0) -> Schedule:
    """Half a cosine from `peak` towards `floor`, which is not reached: step k of n is at phase pi * k / n."""

    def decay(step: int, steps: int) -> float:
        return floor + 0.5 * (peak - floor) * (1.0 + math.cos(math.pi * step / steps))

    return _with_warmup(peak, total, warmup, decay)


def poly(*, peak: float, total: int, warmup: int = 0, floor: float = 0.0, power: float = 1.0) -> Schedule:
    """(1 - k/n) ** power from `peak` towards `floor`: the segmentation recipes have power 1 and floor 0."""

    def decay(step: int, steps: int) -> float:
        return floor + (peak - floor) * math.pow(1.0 - step / steps, power)

    return _with_warmup(peak, total, warmup, decay)


def multistep(
    *, peak: float, total: int, warmup: int = 0, milestones: tuple[int, ...], gamma: float = 0.1
) -> Schedule:
    """`peak` times `gamma` for each milestone reached; a milestone is a step from the start of the run."""

    def decay(step: int, _steps: int) -> float:
        reached = sum(step + warmup >= milestone for milestone in milestones)
        return peak * math.pow(gamma, reached)

    return _with_warmup(peak, total, warmup, decay)
