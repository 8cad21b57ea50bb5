"""Steps whose loss or gradient is no number, and losses that jump: noticed without making the device wait.

A step decides on the device whether it changes anything (`step.py`). What it decided is copied to the host
beside the work that follows, and read here a fixed number of steps later: at the same step on every rank, so
that all of them do the same about it.
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
from hornet_train.engine.state import Record
from hornet_train.engine.step import StepResult

BEHIND = 2  # steps that a GPU may be behind when its record is read; a CPU is never
SETTLED = 20  # losses after which their mean means something
MEMORY = 100  # steps over which it is taken
OVERFLOWS = 24  # halvings after which fp16's loss scale of 2**16 is no longer the reason for an overflow


@dataclass(frozen=True)
class GuardSettings:
    """When to go back.

    Attributes:
        max_skips: steps in a row without an update after which the run goes back; None for never.
        spike: so many times the mean loss send it back too; None for none.
        window: the most steps up to a failure that are left out afterwards.
        backoff: what the learning rate is multiplied by at each return; None leaves it.
        max_rollbacks: returns after which the next failure ends the run.
        dump: whether the micro-batches of a skipped step are kept for a replay; the host then waits for
            each step.
    """

    max_skips: int | None = 3
    spike: float | None = None
    window: int = 500
    backoff: float | None = None
    max_rollbacks: int = 3
    dump: bool = False


@dataclass
class Passed:
    """A step that is done, as far as the host knows."""

    step: int
    images: int  # over all ranks
    sizes: list[int]  # images of each of this rank's micro-batches
    result: StepResult
    batches: list[Batch]  # of this rank, what was `kept` of them
    numbers: Tensor  # (3,): loss times weight, weight, gradient norm; on the host once `ready`
    ready: torch.cuda.Event | None = None

    def read(self) -> tuple[float, float]:
        """Mean loss of the step over all ranks, and gradient norm; waits until they are there."""
        if self.ready is not None:
            self.ready.synchronize()
        loss, weight, norm = self.numbers.tolist()
        return loss / weight if weight else loss, norm


@dataclass(frozen=True)
class Fault:
    """A step that went wrong.

    Attributes:
        kind: "loss" or "gradient" where that was no number and the step was skipped; "overflow" for a
            gradient too large for fp16 as it was scaled; "spike" for a loss that jumped, after its update.
        loss: mean over the step's images; norm: of the whole gradient, before clipping.
    """

    passed: Passed
    kind: str
    loss: float
    norm: float

    @property
    def skipped(self) -> bool:
        """Whether the step changed nothing."""
        return self.kind != "spike"


@dataclass
class Guard:
    """Looks at each step.

    Attributes:
        record: what it remembers; part of a run's state.
        scaled: whether the loss is scaled for fp16.
        failed: the fault that sends the run back.
    """

    settings: GuardSettings
    record: Record
    device: torch.device
    scaled: bool = False
    failed: Fault | None = None
    _waiting: deque[Passed] = field(default_factory=deque)

    def kept(self, batch: Batch) -> Batch:
        """What is to be kept of a batch until its step was looked at: which samples, or everything."""
        if self.settings.dump:
            return batch
        return only(batch, ("index",))

    def add(self, step: int, images: int, sizes: list[int], result: StepResult, batches: list[Batch]) -> None:
        """Take down a step; its numbers are on their way to the host. See `Passed`."""
        weight = result.weight
        if not isinstance(weight, Tensor):
            weight = torch.full((), float(weight), device=self.device)  # a fill; a copy would wait
        numbers = torch.stack([result.loss.float(), weight, result.grad_norm.float()])
        if self.device.type != "cuda":
            self._waiting.append(Passed(step, images, sizes, result, batches, numbers))
            return
        host = torch.empty(3, pin_memory=True)
        host.copy_(numbers, non_blocking=True)
        ready = torch.cuda.Event()
        ready.record()
        self._waiting.append(Passed(step, images, sizes, result, batches, host, ready))

    def faults(self, *, wait: bool) -> Iterator[Fault]:
        """What went wrong in the steps that are due to be looked at, until one of them is the last straw.

        Args:
            wait: look at every step so far; else those that a GPU has had `BEHIND` steps to finish.
        """
        behind = BEHIND if self.device.type == "cuda" and not (wait or self.settings.dump) else 0
        while self.failed is None and len(self._waiting) > behind:
            passed = self._waiting.popleft()
            loss, norm = passed.read()
            kind = self._kind(loss, norm)
            if kind is None:
                self.record.streak = self.record.overflows = 0
                continue
            fault = Fault(passed, kind, loss, norm)
            if self._is_last_straw(fault):
                self.failed = fault
            yield fault

    def _is_last_straw(self, fault: Fault) -> bool:
        """Whether to go back; counts the fault."""
        record, limit = self.record, self.settings.max_skips
        if fault.kind == "spike":
            return True
        if not record.streak and not record.overflows:
            record.since = fault.passed.step
        if fault.kind == "overflow":
            record.overflows += 1
            return limit is not None and record.overflows >= limit + OVERFLOWS
        record.streak += 1
        return limit is not None and record.streak >= limit

    def _kind(self, loss: float, norm: float) -> str | None:
        record, spike = self.record, self.settings.spike
        if not math.isfinite(loss):
            return "loss"
        if not math.isfinite(norm):
            return "overflow" if self.scaled else "gradient"
        if spike is not None and record.seen >= SETTLED and loss > spike * record.mean:
            return "spike"
        record.seen += 1
        record.mean += (loss - record.mean) / min(record.seen, MEMORY)
        return None

    def forget(self, record: Record) -> None:
        """Go on from another state."""
        self.record, self.failed = record, None
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
