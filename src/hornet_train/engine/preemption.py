"""Stopping on a signal or a time limit, on all ranks after the same step."""

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

from hornet_train.errors import Preempted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
# Further signals within so many seconds are the same request: a launcher forwards signals that its process
# group receives anyway.
SAME_REQUEST_SECONDS = 2.0


class Stop:
    """Decides whether to stop, and why; the same on all ranks.

    The first signal stops the run: between two steps during training, at once before training. A later signal
    ends the process as it does by default, which harms no more than a power failure.

    Args:
        limit_minutes: minutes of training after which to stop; None for no limit.
    """

    def __init__(self, limit_minutes: float | None = None) -> None:
        self._limit, self._end = limit_minutes, float("inf")
        self._reason: str | None = None
        self._signalled_at = 0.0
        self._training = False
        self._group: dist.ProcessGroup | None = None
        self._previous: tuple[dist.Work, torch.Tensor] | None = None  # the exchange begun by the last `due`

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals, if this is the main thread; restores the earlier handlers at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._reason is None or not self._signalled_at:
            self._reason, self._signalled_at = signal.Signals(number).name, now
            if not self._training:
                raise Preempted(self._reason, saved=False)
        elif now - self._signalled_at >= SAME_REQUEST_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    @contextmanager
    def training(self) -> Iterator[None]:
        """Inside, a signal only takes effect through `due`. Every rank enters this together."""
        self._training = True
        if self._limit is not None:
            self._end = time.monotonic() + 60 * self._limit
        if dist.is_initialized():
            group = dist.new_group(backend="gloo")  # on the CPU: no device waits for it
            assert isinstance(group, dist.ProcessGroup)
            self._group = group
        yield
        self._previous = None  # the rest takes no time, and signals do not stop it

    def due(self) -> str | None:
        """Why to stop, if any rank has a reason. Every rank calls this equally often.

        With several ranks the answer is as of the call before: they exchange it while a step runs.
        """
        if self._reason is None and time.monotonic() >= self._end:
            self._reason = f"checkpoint.max_minutes={self._limit:g}"
        if self._group is None:
            return self._reason
        previous = self._previous
        flag = torch.tensor([0 if self._reason is None else 1])
        work = dist.all_reduce(flag, dist.ReduceOp.MAX, group=self._group, async_op=True)
        assert work is not None
        self._previous = work, flag
        if previous is None:
            return None
        previous[0].wait()
        return (self._reason or "a signal to another rank") if previous[1].item() else None
