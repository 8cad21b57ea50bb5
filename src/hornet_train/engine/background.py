"""Checkpoints written while the training goes on: from a copy, by a thread."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from hornet_train.engine.checkpoint import CheckpointStore
from hornet_train.engine.sharding import full
from hornet_train.engine.state import TensorGroups
from hornet_train.errors import CheckpointError

_log = logging.getLogger("hornet_train")


class BackgroundSaver:
    """Writes to a store, one checkpoint at a time; the caller waits for no more than a copy into memory.

    The copy's memory, as much as a checkpoint has, is kept from one to the next. As a context manager it ends
    when the last checkpoint is on the disk.

    Args:
        store: where they go.
    """

    def __init__(self, store: CheckpointStore) -> None:
        self.store = store
        self._copies: TensorGroups = {}
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[Path] | None = None
        self._preparing: Future[TensorGroups] | None = None

    def prepare(self, tensors: TensorGroups) -> None:
        """Have memory made ready for a copy of such tensors; does not wait for it."""
        self._preparing = self._thread.submit(_like, tensors)

    def save(self, tensors: TensorGroups, numbers: Mapping[str, Any]) -> None:
        """Copy everything, and have it written; waits for the one before where that is not yet.

        Raises:
            CheckpointError: the one before could not be written.
        """
        self.wait()
        if self._preparing is not None:
            self._copies, self._preparing = self._preparing.result(), None
        if _kinds(tensors) != _kinds(self._copies):
            self._copies = _like(tensors)
        devices = set()
        with torch.no_grad():
            for group, named in tensors.items():
                for name, tensor in named.items():
                    self._copies[group][name].copy_(full(tensor), non_blocking=True)
                    devices.add(tensor.device)
        for device in devices:
            if device.type == "cuda":  # the weights must not change before they are copied
                torch.cuda.current_stream(device).synchronize()
        self._writing = self._thread.submit(self.store.save, self._copies, copy.deepcopy(dict(numbers)))

    @property
    def idle(self) -> bool:
        """Whether nothing is being written, or made ready to be."""
        return all(task is None or task.done() for task in (self._writing, self._preparing))

    def wait(self) -> None:
        """Until what was saved last is on the disk.

        Raises:
            CheckpointError: it could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def __enter__(self) -> BackgroundSaver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.wait()
        except CheckpointError as fault:
            if error is None:
                raise
            _log.warning("%s", fault)  # what ended the run is told by its own error
        finally:
            self._thread.shutdown()
            self._copies.clear()


def _kinds(tensors: TensorGroups) -> dict[str, dict[str, tuple[torch.Size, torch.dtype]]]:
    return {
        group: {name: (tensor.shape, tensor.dtype) for name, tensor in named.items()}
        for group, named in tensors.items()
    }


def _like(tensors: TensorGroups) -> TensorGroups:
    """Tensors on the CPU of the same shapes, all in one piece of memory: pages come faster so."""
    everything = [tensor for named in tensors.values() for tensor in named.values()]
    room = sum(_room(tensor) for tensor in everything)
    pinned = any(tensor.device.type == "cuda" for tensor in everything)
    memory = torch.zeros(room, dtype=torch.uint8, pin_memory=pinned).numpy()
    copies: TensorGroups = {}
    place = 0
    for group, named in tensors.items():
        copies[group] = {}
        for name, tensor in named.items():
            count = tensor.numel()
            flat = torch.frombuffer(memory, dtype=tensor.dtype, count=count, offset=place) if count else None
            copies[group][name] = (
                torch.empty_like(tensor, device="cpu") if flat is None else flat.view(tensor.shape)
            )
            place += _room(tensor)
    return copies


def _room(tensor: Tensor) -> int:
    """Bytes that a tensor takes, rounded up to whole cache lines."""
    return (tensor.numel() * tensor.element_size() + 63) // 64 * 64
