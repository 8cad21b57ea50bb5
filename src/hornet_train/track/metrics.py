"""Sums that stay on the device until somebody logs them, and the speed of the loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor


class Sums:
    """Named running sums. `add` never waits for the device; `read` copies to the host once.

    Every rank must know the same names before `reduce`, since it adds up vectors by position: name them here
    where a rank may see no data at all.
    """

    def __init__(self, *names: str, device: torch.device | str = "cpu") -> None:
        """`device`: where the sums live; float64 there, or float32 where the device has no float64 (MPS)."""
        self.device = torch.device(device)
        self.dtype = torch.float32 if self.device.type == "mps" else torch.float64
        self._names = names
        self._sums: dict[str, Tensor] = {}
        self._host: dict[str, float] = {}  # plain numbers, kept off the device until they are read
        self.reset()

    def reset(self) -> None:
        """Back to nought, and to the names given at the start."""
        self._sums = {}
        self._host = dict.fromkeys(self._names, 0.0)

    @property
    def names(self) -> tuple[str, ...]:
        """The sums there are, sorted."""
        return tuple(sorted(self._sums.keys() | self._host.keys()))

    def add(self, **values: Tensor | float) -> None:
        """Add 0-d tensors (detached here) or plain numbers to the sums of these names."""
        # evaluation runs in inference mode: a sum born there could not be added to outside of it
        with torch.inference_mode(False), torch.no_grad():
            for name, value in values.items():
                if not isinstance(value, Tensor):
                    self._host[name] = self._host.get(name, 0.0) + value
                elif name in self._sums:
                    self._sums[name].add_(value.detach())
                else:
                    self._sums[name] = value.detach().to(self.device, self.dtype, copy=True)

    def put(self, **values: Tensor) -> None:
        """Have 0-d tensors, which are copied, in the place of the sums of these names."""
        for name in values:
            self._sums.pop(name, None)
            self._host.pop(name, None)
        self.add(**values)

    def reduce(self, all_reduce: Callable[[Tensor], object] | None = None) -> None:
        """Sum over the ranks, once: `all_reduce` adds up a vector over all of them, in place (None: one)."""
        if all_reduce is None:
            return
        names, vector = self._packed()
        all_reduce(vector)
        self._host = {}
        self._sums = dict(zip(names, vector.unbind(), strict=True))

    def read(self) -> dict[str, float]:
        """The sums by name, in one copy from device to host."""
        names, vector = self._packed()
        return dict(zip(names, vector.tolist(), strict=True))

    def _packed(self) -> tuple[list[str], Tensor]:
        """All sums as one vector, in the order of their sorted names."""
        names = list(self.names)
        with torch.inference_mode(False), torch.no_grad():
            host = [self._host.get(name, 0.0) for name in names]
            vector = torch.tensor(host, dtype=self.dtype).to(self.device, non_blocking=True)
            if self._sums:
                zero = torch.zeros((), dtype=self.dtype, device=self.device)
                vector += torch.stack([self._sums.get(name, zero) for name in names])
        return names, vector


class Speed(NamedTuple):
    """A window's throughput and the share of it, 0..1, that the loop waited for data."""

    images_per_second: float
    data_wait: float


class Speedometer:
    """Throughput since the last `read`, with evaluations and checkpoints taken out of the time."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._start = clock()
        self._paused_at: float | None = None
        self._out = 0.0  # seconds paused in this window
        self._wait = 0.0
        self._images = 0

    def add_wait(self, seconds: float) -> None:
        """The loop stood `seconds` waiting for a batch."""
        self._wait += seconds

    def add_images(self, count: int) -> None:
        """`count` images are through, over all ranks."""
        self._images += count

    def pause(self) -> None:
        """Stop the clock, until `resume`; a second pause changes nothing."""
        if self._paused_at is None:
            self._paused_at = self._clock()

    def resume(self) -> None:
        """Let the clock go on."""
        if self._paused_at is not None:
            self._out += self._clock() - self._paused_at
            self._paused_at = None

    @contextmanager
    def paused(self) -> Iterator[None]:
        """`pause` and `resume` around a block."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def read(self) -> Speed:
        """The window's speed; a new window starts here."""
        now = self._clock()
        paused = self._paused_at is not None
        if paused:
            self.resume()
        elapsed = now - self._start - self._out
        images, wait = self._images, self._wait
        self._start, self._out, self._wait, self._images = now, 0.0, 0.0, 0
        if paused:
            self._paused_at = now
        if elapsed <= 0:
            return Speed(0.0, 0.0)
        return Speed(images / elapsed, min(max(wait / elapsed, 0.0), 1.0))
