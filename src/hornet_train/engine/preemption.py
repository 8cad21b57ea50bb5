"""Stopping in time: a signal or a time limit, noticed by all ranks after the same step."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
import torch.distributed as dist

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
SAME_REQUEST = (
    2.0  # seconds in which further signals are echoes: a launcher passes on what its group gets too
)


class Preempted(Exception):  # noqa: N818 - no fault, but a reason to end
    """The run was asked to stop.

    Attributes:
        reason: a signal's name, or the limit that is reached.
        saved: whether everything up to here is in a checkpoint; nothing was done yet, where it is not.
    """

    def __init__(self, reason: str, *, saved: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.saved = saved


class Stop:
    """Whether to stop, and why; the same answer on all ranks.

    The first signal asks to stop: between steps in training, at once before, when there is nothing to lose.
    A later one ends the process as the signal does by default, which harms no more than a power failure.

    Args:
        limit_minutes: of training, after which to stop; None for none.
    """

    def __init__(self, limit_minutes: float | None = None) -> None:
        self._limit, self._end = limit_minutes, float("inf")
        self._reason: str | None = None
        self._asked_at = 0.0
        self._training = False
        self._group: dist.ProcessGroup | None = None
        self._asked: tuple[dist.Work, torch.Tensor] | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals, where this is the main thread; as they were before when it ends."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._take) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._reason is None or not self._asked_at:
            self._reason, self._asked_at = signal.Signals(number).name, now
            if not self._training:
                raise Preempted(self._reason, saved=False)
        elif now - self._asked_at >= SAME_REQUEST:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    @contextmanager
    def training(self) -> Iterator[None]:
        """From here on a signal waits until `due` is asked. Every rank enters together."""
        self._training = True
        if self._limit is not None:
            self._end = time.monotonic() + 60 * self._limit
        if dist.is_initialized():
            group = dist.new_group(backend="gloo")  # between hosts: no device waits for it
            assert isinstance(group, dist.ProcessGroup)
            self._group = group
        yield
        self._asked = None  # what is left to do takes no time, and no signal stops it

    def due(self) -> str | None:
        """Why to stop, where any rank has a reason. Every rank asks equally often.

        Of several ranks the answer is that to the question before: while a step runs, they exchange theirs.
        """
        if self._reason is None and time.monotonic() >= self._end:
            self._reason = f"checkpoint.max_minutes={self._limit:g}"
        if self._group is None:
            return self._reason
        asked = self._asked
        flag = torch.tensor([0 if self._reason is None else 1])
        work = dist.all_reduce(flag, dist.ReduceOp.MAX, group=self._group, async_op=True)
        assert work is not None
        self._asked = work, flag
        if asked is None:
            return None
        asked[0].wait()
        return (self._reason or "a signal to another rank") if asked[1].item() else None
