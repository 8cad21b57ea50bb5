"""Finds steps whose loss or gradient is not finite, and losses that jump, without making the host wait.

A step decides on the device whether it changes anything (`step.py`). Its loss and gradient norm are copied to
the host while later steps run, and are read here a fixed number of steps later: at the same step on every
rank, so that all ranks react alike.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hornet_train.data.batch import Batch, only
from hornet_train.engine.fault_history import FaultHistory
from hornet_train.engine.step import StepResult

GPU_DELAY = 2  # number of later steps after which a step's numbers are read on a GPU; on a CPU at once
MIN_LOSSES = 20  # number of good steps before the spike test begins
LOSS_WINDOW = 100  # number of steps averaged for the spike test
MAX_HALVINGS = 24  # of fp16's loss scale of 2**16; an overflow after these has another cause


@dataclass(frozen=True)
class GuardSettings:
    """When a run goes back to a checkpoint.

    Attributes:
        max_skips: number of skipped steps in a row that sends the run back; None for never.
        spike: a loss above this multiple of the mean loss sends the run back; None for never.
        window: at most so many steps up to the failure are left out afterwards.
        backoff: factor on the learning rate at each return; None for 1.
        max_rollbacks: number of returns after which the next failure ends the run.
        dump: write the micro-batches of a skipped step to a file, for a replay. The host then waits for each
            step.
    """

    max_skips: int | None = 3
    spike: float | None = None
    window: int = 500
    backoff: float | None = None
    max_rollbacks: int = 3
    dump: bool = False


@dataclass
class FinishedStep:
    """A step that the host has issued; a GPU may still compute it.

    Attributes:
        images: over all ranks.
        sizes: images of each of this rank's micro-batches.
        batches: what was retained of this rank's micro-batches (`Guard.retained`).
        numbers: (3,): loss times weight, weight, gradient norm. Valid once `ready`.
        ready: the end of the copy of `numbers` to the host; None on a CPU.
    """

    step: int
    images: int
    sizes: list[int]
    result: StepResult
    batches: list[Batch]
    numbers: Tensor
    ready: torch.cuda.Event | None = None

    def read(self) -> tuple[float | None, float]:
        """The mean loss of the step over all ranks, None without any weight, and the gradient norm. Waits for
        the copy."""
        if self.ready is not None:
            self.ready.synchronize()
        loss, weight, norm = self.numbers.tolist()
        return loss / weight if weight else None, norm


@dataclass(frozen=True)
class BadStep:
    """A step that went wrong.

    Attributes:
        kind: "loss" or "gradient" if that was not finite and the step was skipped; "overflow" for a gradient
            too large for fp16 at the present loss scale, also skipped; "spike" for a loss that jumped, whose
            update was made.
        loss: mean over the step's images.
        norm: of the whole gradient, before clipping.
    """

    finished: FinishedStep
    kind: str
    loss: float
    norm: float

    @property
    def skipped(self) -> bool:
        """Whether the step changed nothing."""
        return self.kind != "spike"


@dataclass
class Guard:
    """Examines each step.

    Attributes:
        history: what the guard remembers; part of the run's state.
        scaled: whether the loss is scaled for fp16.
        rollback_cause: the bad step that sends the run back; None while there is none.
    """

    settings: GuardSettings
    history: FaultHistory
    device: torch.device
    scaled: bool = False
    rollback_cause: BadStep | None = None
    _waiting: deque[FinishedStep] = field(default_factory=deque)

    def retained(self, batch: Batch) -> Batch:
        """The part of a batch to retain until its step was examined: the sample indices, or all of it."""
        if self.settings.dump:
            return batch
        return only(batch, ("index",))

    def add(self, step: int, images: int, sizes: list[int], result: StepResult, batches: list[Batch]) -> None:
        """Add a step to examine, and start the copy of its numbers to the host; see `FinishedStep`."""
        weight = result.weight
        if not isinstance(weight, Tensor):
            weight = torch.full((), float(weight), device=self.device)  # a fill does not wait; a copy would
        numbers = torch.stack([result.loss.float(), weight, result.grad_norm.float()])
        if self.device.type != "cuda":
            self._waiting.append(FinishedStep(step, images, sizes, result, batches, numbers))
            return
        host = torch.empty(3, pin_memory=True)
        host.copy_(numbers, non_blocking=True)
        ready = torch.cuda.Event()
        ready.record()
        self._waiting.append(FinishedStep(step, images, sizes, result, batches, host, ready))

    def bad_steps(self, *, wait: bool) -> Iterator[BadStep]:
        """The bad ones among the steps that can be examined, up to one that is the `rollback_cause`.

        Args:
            wait: examine every step so far; else leave out the latest `GPU_DELAY` steps on a GPU.
        """
        delay = GPU_DELAY if self.device.type == "cuda" and not (wait or self.settings.dump) else 0
        while self.rollback_cause is None and len(self._waiting) > delay:
            finished = self._waiting.popleft()
            loss, norm = finished.read()
            kind = self._kind(loss, norm)
            if kind is None:
                self.history.streak = self.history.overflows = 0
                continue
            bad = BadStep(finished, kind, 0.0 if loss is None else loss, norm)
            if self._needs_rollback(bad):
                self.rollback_cause = bad
            yield bad

    def _needs_rollback(self, bad: BadStep) -> bool:
        """Count a bad step; returns whether the run must go back."""
        history, limit = self.history, self.settings.max_skips
        if bad.kind == "spike":
            return True
        if not history.streak and not history.overflows:
            history.since = bad.finished.step
        if bad.kind == "overflow":
            history.overflows += 1
            return limit is not None and history.overflows >= limit + MAX_HALVINGS
        history.streak += 1
        return limit is not None and history.streak >= limit

    def _kind(self, loss: float | None, norm: float) -> str | None:
        """What is wrong with a step (see `BadStep.kind`); None for a good one, whose loss, if it has one,
        enters the mean."""
        history, spike = self.history, self.settings.spike
        if loss is not None and not math.isfinite(loss):
            return "loss"
        if not math.isfinite(norm):
            return "overflow" if self.scaled else "gradient"
        if loss is None:
            return None
        if spike is not None and history.seen >= MIN_LOSSES and loss > spike * history.mean:
            return "spike"
        history.seen += 1
        history.mean += (loss - history.mean) / min(history.seen, LOSS_WINDOW)
        return None

    def reset(self, history: FaultHistory) -> None:
        """Continue from the state of another step: forget all steps not yet examined."""
        self.history, self.rollback_cause = history, None
        self._waiting.clear()


def stage_of(name: str) -> str:
    """The stage of a parameter, by its name: `stages.2`, `downsample_layers.0`, `layers.1`, `head`."""
    found = re.match(r"[^.]+\.\d+(?=\.)|[^.]+", name)
    assert found is not None
    return found[0]


def norm_by_stage(norms: Mapping[str, float]) -> dict[str, float]:
    """The gradient's norm in each stage, from that of each parameter."""
    squares: dict[str, float] = {}
    for name, norm in norms.items():
        squares[stage_of(name)] = squares.get(stage_of(name), 0.0) + norm * norm
    return {stage: math.sqrt(square) for stage, square in squares.items()}
