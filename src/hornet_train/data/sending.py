"""How a worker's tensors get to the main process: in shared memory, and where that is full through the pipe.

Containers often have little shared memory (Docker: 64 MB), and some have none that can be written.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

SHARED_MEMORY = "/dev/shm"
_SMALL = 64 << 10  # bytes up to which a tensor goes through the pipe: faster than a file descriptor
_RESERVE = 1 << 20  # bytes that stay free, for the locks of other workers
_LOCKS, _LOCKS_OF_WORKER = 12, 3  # of a DataLoader: 8 for a queue and an event, some more, and a queue each


@dataclass(frozen=True)
class Piped:
    """A tensor without gaps in its memory, as bytes that pickle into a pipe."""

    data: np.ndarray[Any, np.dtype[np.uint8]]
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, tensor: Tensor) -> Piped:
        """Any tensor; one with gaps is copied."""
        if not torch.ops.aten.is_non_overlapping_and_dense(tensor):
            tensor = tensor.contiguous()
        flat = tensor.as_strided((tensor.numel(),), (1,))
        return cls(flat.view(torch.uint8).numpy(), tensor.dtype, tuple(tensor.shape), tensor.stride())

    def tensor(self) -> Tensor:
        """The tensor, in the memory into which it was received."""
        flat = torch.from_numpy(self.data).view(self.dtype)
        return flat.as_strided(self.shape, self.strides)


Sent = Tensor | Piped


def shared(tensor: Tensor) -> Tensor | None:
    """A tensor moved to shared memory; None where there is too little of it."""
    if not _has_room(tensor.nbytes):
        return None
    try:
        tensor.share_memory_()
    except RuntimeError:  # full, or not writable
        return None
    return tensor


def sent(tensor: Tensor) -> Sent:
    """A tensor of a worker in the form in which it goes to the main process."""
    in_memory = shared(tensor) if tensor.nbytes > _SMALL else None
    return Piped.of(tensor) if in_memory is None else in_memory


def received(tensors: Mapping[str, Sent]) -> dict[str, Tensor]:
    """The tensors that were `sent`."""
    return {name: one.tensor() if isinstance(one, Piped) else one for name, one in tensors.items()}


def unshared_bytes(value: Sent) -> int:
    """The size of a tensor that goes through the pipe though it belongs into shared memory; else 0."""
    size = value.data.nbytes if isinstance(value, Piped) else 0
    return size if size > _SMALL else 0


def _has_room(size: int) -> bool:
    try:
        place = os.statvfs(SHARED_MEMORY)
    except OSError:  # another system, which has its shared memory elsewhere
        return True
    return place.f_bavail * place.f_frsize >= size + _RESERVE


def no_processes(workers: int) -> str | None:
    """Why reading processes cannot be started; None where they can. Their locks are in shared memory, a page
    each, as are those of other pools that are there."""
    try:
        _ = [multiprocessing.Lock() for _ in range(_LOCKS + _LOCKS_OF_WORKER * workers)]
    except OSError as error:
        return f"{SHARED_MEMORY} cannot be written ({error.strerror})"
    return None


def too_small(needed: int) -> str:
    """A sentence on shared memory that does not hold what it should.

    Args:
        needed: bytes.
    """
    try:
        place = os.statvfs(SHARED_MEMORY)
        whole, free = (blocks * place.f_frsize / 2**20 for blocks in (place.f_blocks, place.f_bavail))
        size = f", which has {whole:,.0f} MB, {free:,.0f} MB free"
    except OSError:
        size = ""
    return (
        f"batches need {needed / 2**20:,.0f} MB of shared memory ({SHARED_MEMORY}{size}): they come through "
        "pipes, which takes a little longer (docker run --shm-size=1g or --ipc=host; or fewer data.workers, "
        "or a smaller data.prefetch)"
    )
