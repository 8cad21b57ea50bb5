"""How close a training step comes to the peak rates of the machine."""

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
from hornet_train.models.kernels.projection import project
from hornet_train.models.kernels.rowwise import AVAILABLE

_TRIES = 7
# By type of device. Matrices large enough to be bound by arithmetic, and a copy larger than the caches.
_SIDE = {"cpu": 2048, "cuda": 8192}  # of the square matrices
_COPIED = {"cpu": 256 << 20, "cuda": 2 << 30}  # bytes
_LISTED = 10  # operators, and kernels


@dataclass(frozen=True)
class Limit:
    """A training step compared with the machine's peak rates.

    Attributes:
        matmul: peak rate of a large matrix product in the step's precision, operations per second.
        bandwidth: peak rate of a large copy, bytes read and written per second.
        flops: of the step's convolutions and matrix products: 2 per MAC, and 3 times the forward pass.
        bytes: read and written by the step's operators, if none of it were found in a cache.
        seconds: median time of a step.
        operators: (name, share of the step's time, calls) of the most expensive operators.
        kernels: the same of a GPU's kernels; none on a CPU.
    """

    matmul: float
    bandwidth: float
    flops: float
    bytes: float
    seconds: float
    operators: list[tuple[str, float, int]]
    kernels: list[tuple[str, float, int]]

    @property
    def of_matmul(self) -> float:
        """The share of the step's time that its arithmetic would take at the peak rate."""
        return self.flops / self.matmul / self.seconds

    @property
    def of_bandwidth(self) -> float:
        """The share of the step's time that its memory traffic would take at the peak rate."""
        return self.bytes / self.bandwidth / self.seconds

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "of_matmul": self.of_matmul, "of_bandwidth": self.of_bandwidth}


def limit(step: Callable[[], object], *, macs: float, dtype: torch.dtype, device: torch.device) -> Limit:
    """Measure the machine's peak rates and a training step.

    Args:
        step: runs forward, backward and update; already warmed up.
        macs: multiply-accumulates of its forward pass, for the whole batch.
        dtype: of its matrix products.
    """
    seconds = median(_timed(step, device) for _ in range(_TRIES))
    side, copied_bytes = _SIDE[device.type], _COPIED[device.type]
    product = _product_seconds(side, dtype, device)
    source = torch.zeros(copied_bytes, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    copied = min(_timed(lambda: target.copy_(source), device) for _ in range(_TRIES))
    with _MemoryTraffic() as moved:
        step()
    operators, kernels = _most_expensive(step, device)
    return Limit(
        matmul=2 * side**3 / product,
        bandwidth=2 * copied_bytes / copied,
        flops=2 * 3 * macs,
        bytes=moved.bytes,
        seconds=seconds,
        operators=operators,
        kernels=kernels,
    )


def _product_seconds(side: int, dtype: torch.dtype, device: torch.device) -> float:
    """Of a product of two square matrices, by torch or, on a CPU where it is faster, by our own tiles."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    ways: list[Callable[[], object]] = [lambda: a @ b]
    if device.type == "cpu" and dtype == torch.float32 and AVAILABLE:
        ones, zeros = torch.ones(side), torch.zeros(side)
        x_BCHW = a.view(1, side, 1, side).permute(0, 3, 1, 2)  # which is normalised before: a little more
        ways.append(lambda: project(x_BCHW, ones, zeros, b, zeros, torch.float32))
    return min(_timed(way, device) for _ in range(_TRIES) for way in ways)


def activation_bytes(model: nn.Module, images: Tensor, precision: PrecisionName) -> int:
    """Bytes that a training forward pass leaves in memory for the backward pass, without the parameters."""
    model.train()
    with _NewStorages() as made, autocast(precision, images.device):
        out = model(images)
    size: int = made.alive()
    del out
    return size


class _NewStorages(TorchDispatchMode):
    """Records every storage that operators allocate, by weak reference."""

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
        """Bytes of the recorded storages that are still in use."""
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


class _MemoryTraffic(TorchDispatchMode):
    """Adds up the bytes of the inputs and outputs of operators; views count as no traffic."""

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


def _most_expensive(
    step: Callable[[], object], device: torch.device
) -> tuple[list[tuple[str, float, int]], list[tuple[str, float, int]]]:
    """Operators, and a GPU's kernels: name, share of the time, calls."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as recorded:
        step()
    averages = recorded.key_averages()

    def ranked(kind: DeviceType) -> list[tuple[str, float, int]]:
        spent = [
            (one.key, one.self_device_time_total if on_gpu else one.self_cpu_time_total, one.count)
            for one in averages
            if one.device_type == kind
        ]
        total = sum(time for _, time, _ in spent) or 1.0
        most = sorted(spent, key=lambda one: -one[1])[:_LISTED]
        return [(name, time / total, count) for name, time, count in most]

    return ranked(DeviceType.CPU), ranked(DeviceType.CUDA) if on_gpu else []
