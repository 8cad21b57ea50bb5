"""Saving a run: all ranks take part, rank 0 writes in the background and reports failures as events."""

from __future__ import annotations

import logging
from types import TracebackType

from hornet_train.engine.background import BackgroundSaver
from hornet_train.engine.checkpoint import CheckpointStore
from hornet_train.engine.distributed import World
from hornet_train.engine.log_window import Emit, LogWindow
from hornet_train.engine.recovery import fall_back_to_saved_best
from hornet_train.engine.state import TrainState

_log = logging.getLogger("hornet_train")


class RunSaver:
    """Saves the state of a run. As a context manager it ends when the last checkpoint is on the disk.

    Attributes:
        saved_step: the step of the newest checkpoint that was handed over for writing; -1 for none.
    """

    def __init__(self, state: TrainState, store: CheckpointStore, world: World, emit: Emit) -> None:
        self.saved_step = -1
        self._state, self._store, self._world, self._emit = state, store, world, emit
        self._writer = BackgroundSaver(store)

    @property
    def idle(self) -> bool:
        """Whether no checkpoint is being written."""
        return self._writer.idle

    def preallocate(self) -> None:
        """Allocate rank 0's memory for the copy of a checkpoint, in the background."""
        if self._world.is_main:
            self._writer.preallocate(self._state.tensors())

    def save(self, window: LogWindow, *, scheduled: bool) -> None:
        """Copy the state and write it in the background. Every rank calls this.

        Args:
            window: the steps since the last `train` event, which the checkpoint stores too.
            scheduled: False if the run was only asked to stop; see `TrainState.scheduled`.
        """
        state = self._state
        state.unlogged = window.snapshot(reported=state.bad_samples)
        if scheduled:
            state.scheduled = state.step
        self._fall_back_to_saved_best()
        if self._world.is_main:
            self._writer.save(state.tensors(), state.numbers())
        else:
            state.join_gather()
        self.saved_step = state.step

    def _fall_back_to_saved_best(self) -> None:
        """Fall back to an earlier best if the disk refused the checkpoint of the best so far: the newer
        checkpoint that is about to be written replaces it in memory."""
        if self._world.is_main:
            self._writer.finish_write()
        lost = fall_back_to_saved_best(self._state, self._store, self._world)
        if not lost:
            return
        now = self._state.best
        self._emit("best_lost", **lost)
        if self._world.is_main:
            fallen = f"the best is that of step {now.step}" if now else "there is no other best yet"
            gone = lost["lost_best"]
            _log.warning("the checkpoint of step %d, the best, was never written: %s", gone, fallen)

    def finish_write(self) -> None:
        """Wait on rank 0 for the write in progress, if any; a failed one is not tried again here."""
        self._writer.finish_write()

    def wait(self, retry_seconds: float) -> None:
        """Wait until the newest checkpoint is on the disk. All ranks wait: a launcher kills the others when
        one ends.

        Raises:
            CheckpointError: writing it failed for `retry_seconds`.
        """
        try:
            self._world.on_main(lambda: self._writer.wait(retry_seconds))
        finally:
            self.emit_outcomes()

    def emit_outcomes(self) -> None:
        """Emit events for checkpoints that could not be written, and for those that could later. Cheap; only
        rank 0 has any."""
        for outcome in self._writer.poll():
            if outcome.error is None:
                self._emit("checkpoint_recovered", checkpoint=outcome.step)
            else:
                self._emit("checkpoint_failed", checkpoint=outcome.step, reason=outcome.error)

    def discard(self) -> None:
        """Finish the write in progress and give up one that failed: the run goes back to an earlier step.
        Every rank calls this."""
        self._world.on_main(self._writer.discard)

    def __enter__(self) -> RunSaver:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.__exit__(kind, error, trace)
