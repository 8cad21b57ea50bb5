"""Writes checkpoints while the training continues: from a copy, by a thread, again if the disk refuses."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from hornet_train.engine.checkpoint import CheckpointStore
from hornet_train.engine.sharding import full_tensor
from hornet_train.engine.state import TensorGroups
from hornet_train.errors import CheckpointError

# Seconds until a failed write is tried again, twice as long each time: a short failure of a network file
# system is over by then, and whoever has made room on a disk does not wait for long.
FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS = 60.0, 600.0
# For how long to try at the end of a run, while other ranks wait, by default for at most 5 minutes; and when
# the run was asked to stop: schedulers kill after 30 seconds.
RETRY_SECONDS_AT_END, RETRY_SECONDS_WHEN_STOPPED = 200.0, 20.0
_log = logging.getLogger("hornet_train")


@dataclass(frozen=True)
class SaveOutcome:
    """What a user should know of a write.

    Attributes:
        step: of the checkpoint.
        error: why it could not be written; None if it is written now after an earlier failure.
    """

    step: int
    error: str | None


class BackgroundSaver:
    """Writes to a store, one checkpoint at a time. The caller waits only for the copy into memory.

    A checkpoint that cannot be written stays in memory, and is tried again until that succeeds or a newer one
    replaces it. The caller continues meanwhile, and calls `poll`. The memory of the copy, as large as a
    checkpoint, is reused by the next one. As a context manager it ends when the last checkpoint is on the
    disk.

    Args:
        store: where checkpoints are written.
    """

    def __init__(self, store: CheckpointStore) -> None:
        self.store = store
        self._copies: TensorGroups = {}
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[Path] | None = None
        self._preallocating: Future[TensorGroups] | None = None
        self._pending: dict[str, Any] | None = None  # numbers of the copy that is not on the disk yet
        self._pause = FIRST_RETRY_SECONDS
        self._retry_at = math.inf
        self._failing = False
        self._outcomes: list[SaveOutcome] = []  # not yet returned by `poll`

    def preallocate(self, tensors: TensorGroups) -> None:
        """Allocate the memory for a copy of such tensors, in the background."""
        self._preallocating = self._thread.submit(_host_buffers_like, tensors)

    def save(self, tensors: TensorGroups, numbers: Mapping[str, Any]) -> None:
        """Copy everything, and begin to write it. Waits for the write in progress, if any; if that fails,
        this newer checkpoint replaces it."""
        self.finish_write()
        if self._preallocating is not None:
            self._copies, self._preallocating = self._preallocating.result(), None
        if _shapes_and_dtypes(tensors) != _shapes_and_dtypes(self._copies):
            self._copies = _host_buffers_like(tensors)
        devices = set()
        with torch.no_grad():
            for group, named in tensors.items():
                for name, tensor in named.items():
                    self._copies[group][name].copy_(full_tensor(tensor), non_blocking=True)
                    devices.add(tensor.device)
        for device in devices:
            if device.type == "cuda":  # the weights must not change before they are copied
                torch.cuda.current_stream(device).synchronize()
        self._pending = copy.deepcopy(dict(numbers))
        self._begin()

    def finish_write(self) -> None:
        """Wait for the write in progress, if any. What failed is not tried again here."""
        self._collect(self._retry_message())

    @property
    def idle(self) -> bool:
        """Whether nothing is being written or preallocated."""
        return all(task is None or task.done() for task in (self._writing, self._preallocating))

    def poll(self) -> list[SaveOutcome]:
        """The outcomes of writes since the last call. Begins another try if one is due; never waits."""
        if self._writing is not None and self._writing.done():
            self._collect(self._retry_message())
        if self._writing is None and self._pending is not None and time.monotonic() >= self._retry_at:
            self._begin()
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def wait(self, retry_seconds: float = 0.0) -> None:
        """Wait until the checkpoint saved last is on the disk.

        Args:
            retry_seconds: for how long to try again if it cannot be written.

        Raises:
            CheckpointError: it could not be written.
        """
        end, pause = time.monotonic() + retry_seconds, 1.0
        reaction = f"trying again for {retry_seconds:.0f} s" if retry_seconds else ""
        while self._pending is not None:
            if self._writing is None:
                self._begin()
            error = self._collect(reaction)
            if error is None:
                break
            left = end - time.monotonic()
            if left <= 0:
                raise CheckpointError(self._lost_message(error)) from error
            time.sleep(min(pause, left))
            pause, reaction = min(2 * pause, 15.0), ""

    def discard(self) -> None:
        """Finish the write in progress and give up a failed one: the run goes back to an earlier step."""
        self._collect("it is not tried again, as the run goes back")
        self._reset()

    def _begin(self) -> None:
        assert self._pending is not None
        self._writing = self._thread.submit(self.store.save, self._copies, self._pending)

    def _reset(self) -> None:
        """Nothing is pending any more."""
        self._pending, self._failing = None, False
        self._pause, self._retry_at = FIRST_RETRY_SECONDS, math.inf

    def _collect(self, reaction: str) -> CheckpointError | None:
        """Wait for the write in progress, if any, and record its outcome.

        Args:
            reaction: what is done about a failure, for the log; empty to log and report nothing.

        Returns:
            Why it failed, if it did.
        """
        writing, self._writing = self._writing, None
        if writing is None:
            return None
        assert self._pending is not None
        step = self._pending["step"]
        try:
            writing.result()
        except CheckpointError as error:
            self._failing, self._retry_at = True, time.monotonic() + self._pause
            self._pause = min(2 * self._pause, MAX_RETRY_SECONDS)
            if reaction:
                self._outcomes.append(SaveOutcome(step, str(error)))
                _log.warning("the checkpoint of step %d is not saved: %s; %s", step, error, reaction)
            return error
        if self._failing:
            self._outcomes.append(SaveOutcome(step, None))
            _log.warning("the checkpoint of step %d is saved, after all", step)
        self._reset()
        return None

    def _retry_message(self) -> str:
        return f"the run goes on, and tries again in {self._pause:.0f} s or with the next checkpoint"

    def _lost_message(self, error: CheckpointError) -> str:
        assert self._pending is not None
        newest = self.store.newest_complete()
        return f"the checkpoint of step {self._pending['step']} is lost: {error}. " + (
            f"The newest on the disk is {newest}: make room, then the same command goes on from there"
            if newest is not None
            else "There is none before it on the disk: make room and start again"
        )

    def __enter__(self) -> BackgroundSaver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.wait()
            else:
                self._collect("the run ends")  # with its own error, which is the one to raise
        finally:
            self._thread.shutdown()
            self._copies.clear()


def _shapes_and_dtypes(tensors: TensorGroups) -> dict[str, dict[str, tuple[torch.Size, torch.dtype]]]:
    return {
        group: {name: (tensor.shape, tensor.dtype) for name, tensor in named.items()}
        for group, named in tensors.items()
    }


def _host_buffers_like(tensors: TensorGroups) -> TensorGroups:
    """CPU tensors of the same shapes, all in one allocation, which is faster than one each. Pinned if any of
    the tensors is on a GPU."""
    everything = [tensor for named in tensors.values() for tensor in named.values()]
    size = sum(_padded_bytes(tensor) for tensor in everything)
    pinned = any(tensor.device.type == "cuda" for tensor in everything)
    memory = torch.zeros(size, dtype=torch.uint8, pin_memory=pinned).numpy()
    copies: TensorGroups = {}
    offset = 0
    for group, named in tensors.items():
        copies[group] = {}
        for name, tensor in named.items():
            count = tensor.numel()
            flat = torch.frombuffer(memory, dtype=tensor.dtype, count=count, offset=offset) if count else None
            copies[group][name] = (
                torch.empty_like(tensor, device="cpu") if flat is None else flat.view(tensor.shape)
            )
            offset += _padded_bytes(tensor)
    return copies


def _padded_bytes(tensor: Tensor) -> int:
    """Bytes of a tensor, rounded up to a multiple of a cache line of 64 bytes."""
    return (tensor.numel() * tensor.element_size() + 63) // 64 * 64
