"""Running sums that stay on the device until they are logged, and the throughput of the loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor


class Sums:
    """Named running sums. `add` never waits for the device; `read` copies to the host once.

    Every rank must have the same names before `reduce`, which adds up vectors by position. Pass the names to
    the constructor if a rank may have no data at all.
    """

    def __init__(self, *names: str, device: torch.device | str = "cpu") -> None:
        """`device`: where the sums are stored; as float64, or float32 on MPS, which has no float64."""
        self.device = torch.device(device)
        self.dtype = torch.float32 if self.device.type == "mps" else torch.float64
        self._names = names
        self._sums: dict[str, Tensor] = {}
        self._host: dict[str, float] = {}  # sums of plain numbers; copied to the device when read
        self.reset()

    def reset(self) -> None:
        """Set the sums of the names given to the constructor to 0, and forget other names."""
        self._sums = {}
        self._host = dict.fromkeys(self._names, 0.0)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all sums, sorted."""
        return tuple(sorted(self._sums.keys() | self._host.keys()))

    def add(self, **values: Tensor | float) -> None:
        """Add 0-d tensors (detached here) or plain numbers to the sums of these names."""
        # evaluation runs in inference mode: a tensor created there could not be changed outside of it
        with torch.inference_mode(False), torch.no_grad():
            for name, value in values.items():
                if not isinstance(value, Tensor):
                    self._host[name] = self._host.get(name, 0.0) + value
                elif name in self._sums:
                    self._sums[name].add_(value.detach())
                else:
                    self._sums[name] = value.detach().to(self.device, self.dtype, copy=True)

    def set(self, **values: Tensor) -> None:
        """Replace the sums of these names by copies of 0-d tensors."""
        for name in values:
            self._sums.pop(name, None)
            self._host.pop(name, None)
        self.add(**values)

    def reduce(self, all_reduce: Callable[[Tensor], object] | None = None) -> None:
        """Sum over the ranks, once. `all_reduce` adds up a vector over all ranks, in place; None for one."""
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
    """The throughput of a window, and the share of its time, 0..1, that the loop waited for data."""

    images_per_second: float
    data_wait: float


class Speedometer:
    """Throughput since the last `read`, without the time of evaluations and checkpoints."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._start = clock()
        self._paused_at: float | None = None
        self._paused_seconds = 0.0
        self._wait = 0.0
        self._images = 0

    def add_wait(self, seconds: float) -> None:
        """Count `seconds` that the loop waited for a batch."""
        self._wait += seconds

    def add_images(self, count: int) -> None:
        """Count images that were trained on, over all ranks."""
        self._images += count

    def pause(self) -> None:
        """Stop the clock until `resume`; pausing again changes nothing."""
        if self._paused_at is None:
            self._paused_at = self._clock()

    def resume(self) -> None:
        """Start the clock again."""
        if self._paused_at is not None:
            self._paused_seconds += self._clock() - self._paused_at
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
        """The speed of the window that ends here; a new window starts."""
        now = self._clock()
        paused = self._paused_at is not None
        if paused:
            self.resume()
        elapsed = now - self._start - self._paused_seconds
        images, wait = self._images, self._wait
        self._start, self._paused_seconds, self._wait, self._images = now, 0.0, 0.0, 0
        if paused:
            self._paused_at = now
        if elapsed <= 0:
            return Speed(0.0, 0.0)
        return Speed(images / elapsed, min(max(wait / elapsed, 0.0), 1.0))
