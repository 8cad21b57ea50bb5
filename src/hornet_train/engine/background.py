"""Checkpoints written while the training goes on: from a copy, by a thread, again where the disk refused."""

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
from hornet_train.engine.sharding import full
from hornet_train.engine.state import TensorGroups
from hornet_train.errors import CheckpointError

# Seconds until a write that failed is tried again, twice as long each time: a moment's trouble of a network
# file system is over by then, and somebody who has made room on a disk does not wait for long.
FIRST_PAUSE, LONGEST_PAUSE = 60.0, 600.0
# And for how long to try, where a run ends: other ranks wait, by default for at most 5 minutes; and where
# it was asked to stop: schedulers kill after 30 seconds.
PATIENCE_AT_THE_END, PATIENCE_WHEN_ASKED = 200.0, 20.0
_log = logging.getLogger("hornet_train")


@dataclass(frozen=True)
class Outcome:
    """What a user should know of a write.

    Attributes:
        step: of the checkpoint.
        fault: why it could not be written; None where it is written now, after it could not be.
    """

    step: int
    fault: str | None


class BackgroundSaver:
    """Writes to a store, one checkpoint at a time; the caller waits for no more than a copy into memory.

    What cannot be written is kept, and tried again until it can or a newer one takes its place: the caller
    goes on, and polls. The copy's memory, as much as a checkpoint has, is kept from one to the next. As a
    context manager it ends when the last checkpoint is on the disk.

    Args:
        store: where they go.
    """

    def __init__(self, store: CheckpointStore) -> None:
        self.store = store
        self._copies: TensorGroups = {}
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[Path] | None = None
        self._preparing: Future[TensorGroups] | None = None
        self._waiting: dict[str, Any] | None = None  # numbers of what is copied and not on the disk yet
        self._pause = FIRST_PAUSE
        self._again_at = math.inf
        self._failing = False
        self._outcomes: list[Outcome] = []  # that `poll` has not told

    def prepare(self, tensors: TensorGroups) -> None:
        """Have memory made ready for a copy of such tensors; does not wait for it."""
        self._preparing = self._thread.submit(_like, tensors)

    def save(self, tensors: TensorGroups, numbers: Mapping[str, Any]) -> None:
        """Copy everything, and have it written; waits for the write before where that goes on.

        Whatever became of that one, this is newer.
        """
        self.make_way()
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
        self._waiting = copy.deepcopy(dict(numbers))
        self._begin()

    def make_way(self) -> None:
        """Wait for the write that goes on, if any. After it the disk has what it will ever have of the
        checkpoints before the next one: what could not be written by now is given up for that."""
        self._collect(self._going_on())

    @property
    def idle(self) -> bool:
        """Whether nothing is being written, or made ready to be."""
        return all(task is None or task.done() for task in (self._writing, self._preparing))

    def poll(self) -> list[Outcome]:
        """What became of writes since the last call. Begins another try where one is due; never waits."""
        if self._writing is not None and self._writing.done():
            self._collect(self._going_on())
        if self._writing is None and self._waiting is not None and time.monotonic() >= self._again_at:
            self._begin()
        told, self._outcomes = self._outcomes, []
        return told

    def wait(self, patience: float = 0.0) -> None:
        """Until what was saved last is on the disk.

        Args:
            patience: for how many seconds to try again where it cannot be written.

        Raises:
            CheckpointError: it could not be written.
        """
        end, pause = time.monotonic() + patience, 1.0
        then = f"trying again for {patience:.0f} s" if patience else ""
        while self._waiting is not None:
            if self._writing is None:
                self._begin()
            fault = self._collect(then)
            if fault is None:
                break
            left = end - time.monotonic()
            if left <= 0:
                raise CheckpointError(self._told(fault)) from fault
            time.sleep(min(pause, left))
            pause, then = min(2 * pause, 15.0), ""

    def discard(self) -> None:
        """Let what goes on come to its end; try nothing again: the run goes back to an earlier step."""
        self._collect("it is not tried again, as the run goes back")
        self._waiting, self._failing, self._pause, self._again_at = None, False, FIRST_PAUSE, math.inf

    def _begin(self) -> None:
        assert self._waiting is not None
        self._writing = self._thread.submit(self.store.save, self._copies, self._waiting)

    def _collect(self, then: str) -> CheckpointError | None:
        """Wait for the write that goes on, if any, and take down what became of it.

        Args:
            then: what is done about a failure, for whom it is told to; empty where it need not be told.

        Returns:
            Why it failed, if it did.
        """
        writing, self._writing = self._writing, None
        if writing is None:
            return None
        assert self._waiting is not None
        step = self._waiting["step"]
        try:
            writing.result()
        except CheckpointError as fault:
            self._failing, self._again_at = True, time.monotonic() + self._pause
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
            if then:
                self._outcomes.append(Outcome(step, str(fault)))
                _log.warning("the checkpoint of step %d is not saved: %s; %s", step, fault, then)
            return fault
        if self._failing:
            self._outcomes.append(Outcome(step, None))
            _log.warning("the checkpoint of step %d is saved, after all", step)
        self._waiting, self._failing, self._pause, self._again_at = None, False, FIRST_PAUSE, math.inf
        return None

    def _going_on(self) -> str:
        return f"the run goes on, and tries again in {self._pause:.0f} s or with the next checkpoint"

    def _told(self, fault: CheckpointError) -> str:
        assert self._waiting is not None
        newest = self.store.stands_at()
        return f"the checkpoint of step {self._waiting['step']} is lost: {fault}. " + (
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
                self._collect("the run ends")  # for a reason that is told by its own error
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
