"""How far a training step is from what the machine can do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.multiprocessing.reductions import StorageWeakRef
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hornet_train.bench.timing import wait_for
from hornet_train.engine.precision import PrecisionName, autocast

_TRIES = 7
# By kind of device: side of the matrices, large enough to be bound by arithmetic; bytes of the copy, larger
# than caches.
_SIDE = {"cpu": 2048, "cuda": 8192}
_COPIED = {"cpu": 256 << 20, "cuda": 2 << 30}
_COSTLIEST = 10


@dataclass(frozen=True)
class Limit:
    """A step beside the machine's peaks.

    Attributes:
        matmul: floating-point operations a second of a large matrix product in the step's precision.
        bandwidth: bytes a second read and written by a large copy.
        flops: operations of the step's convolutions and matrix products: 2 a MAC, forward three times.
        bytes: that the step's operators read and write, each from and to memory.
        seconds: of a step, the median.
        operators: (name, share of the step's time, calls) of the costliest.
    """

    matmul: float
    bandwidth: float
    flops: float
    bytes: float
    seconds: float
    operators: list[tuple[str, float, int]]

    @property
    def of_matmul(self) -> float:
        """The share of the step's time that its arithmetic would take at the peak."""
        return self.flops / self.matmul / self.seconds

    @property
    def of_bandwidth(self) -> float:
        """The share of the step's time that its bytes would take at the peak."""
        return self.bytes / self.bandwidth / self.seconds

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "of_matmul": self.of_matmul, "of_bandwidth": self.of_bandwidth}


def limit(step: Callable[[], object], *, macs: float, dtype: torch.dtype, device: torch.device) -> Limit:
    """Measure the machine and a training step.

    Args:
        step: forward, backward and update, warmed up.
        macs: multiply-accumulates of its forward pass, all images together.
        dtype: that its matrix products run in.
    """
    seconds = median(_timed(step, device) for _ in range(_TRIES))
    side, copied_bytes = _SIDE[device.type], _COPIED[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = min(_timed(lambda: a @ b, device) for _ in range(_TRIES))
    source = torch.zeros(copied_bytes, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    copied = min(_timed(lambda: target.copy_(source), device) for _ in range(_TRIES))
    with _Moved() as moved:
        step()
    return Limit(
        matmul=2 * side**3 / product,
        bandwidth=2 * copied_bytes / copied,
        flops=2 * 3 * macs,
        bytes=moved.bytes,
        seconds=seconds,
        operators=_costliest(step, device),
    )


def kept_for_backward(model: nn.Module, images: Tensor, precision: PrecisionName) -> int:
    """Bytes that a forward pass in training leaves in memory for the backward pass, parameters left out."""
    model.train()
    with _Made() as made, autocast(precision, images.device):
        out = model(images)
    kept: int = made.alive()
    del out
    return kept


class _Made(TorchDispatchMode):
    """Remembers every storage that operators make, without holding on to it."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = {
            one.untyped_storage()._cdata for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)
        }
        for one in tree_leaves(out):
            if isinstance(one, Tensor) and (storage := one.untyped_storage())._cdata not in given:
                self.made[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        return out

    def alive(self) -> int:
        """Bytes of those that are still held."""
        total = 0
        for storage, size in self.made.values():
            total += 0 if storage.expired() else size
        return total


def _timed(call: Callable[[], object], device: torch.device) -> float:
    wait_for(device)
    begin = time.perf_counter()
    call()
    wait_for(device)
    return time.perf_counter() - begin


class _Moved(TorchDispatchMode):
    """Adds up the bytes of what operators take and give; views move nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        made = [one for one in tree_leaves(out) if isinstance(one, Tensor)]
        places = {one.untyped_storage().data_ptr() for one in given}
        mutates = func._schema.is_mutable
        if mutates or not all(one.untyped_storage().data_ptr() in places for one in made):
            self.bytes += sum(one.numel() * one.element_size() for one in (*given, *made))
        return out


def _costliest(step: Callable[[], object], device: torch.device) -> list[tuple[str, float, int]]:
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as recorded:
        step()
    spent = [
        (one.key, one.self_device_time_total if on_gpu else one.self_cpu_time_total, one.count)
        for one in recorded.key_averages()
        if one.device_type == DeviceType.CPU  # operators: a GPU's kernels are listed beside them
    ]
    total = sum(time for _, time, _ in spent) or 1.0
    ranked = sorted(spent, key=lambda one: -one[1])[:_COSTLIEST]
    return [(name, time / total, count) for name, time, count in ranked]
