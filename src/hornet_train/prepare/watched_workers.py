"""Processes that work on files which may kill them or never let go, and a parent that outlives both.

A `ProcessPoolExecutor` breaks as a whole when one worker dies and cannot say over which file. Here each
worker has a pipe and a shared number, the item it is at, so that the parent names what killed or holds a
worker, starts another one, and goes on.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from hornet_train.errors import DataError, UserError

Task = TypeVar("Task")
Result = TypeVar("Result")
Mark = Callable[[int], None]

_POLL_SECONDS = 0.25
# Imported once, in the server that workers are forked from, so that a worker that is replaced costs nothing.
_PRELOAD = ["hornet_train.prepare.examine_images", "hornet_train.prepare.shard_files"]


@dataclass(frozen=True)
class Done(Generic[Task, Result]):
    """A task and what came of it."""

    task: Task
    result: Result


@dataclass(frozen=True)
class Lost(Generic[Task]):
    """A task whose worker died or was stopped.

    Attributes:
        task: the task; nothing came of any of it.
        item: the last item that was marked.
        reason: what happened, in a few words.
    """

    task: Task
    item: int
    reason: str


@dataclass
class _Worker(Generic[Task]):
    process: Any
    pipe: Connection
    at: Any  # a shared int64: the item it is at
    task: Task | None = None
    seen: int = -1  # the item it was at when last looked at
    since: float = field(default_factory=time.monotonic)


def run_crew(
    work: Callable[[Task, Mark], Result],
    tasks: Iterable[Task],
    *,
    workers: int,
    timeout: float,
    tick: Callable[[int], None],
) -> Iterator[Done[Task, Result] | Lost[Task]]:
    """Give tasks to processes; yields in the order of completion.

    Args:
        work: called in a process as `work(task, mark)`; `mark(i)` says that it begins item i of the task. A
            function of a module, with picklable arguments and results.
        tasks: drawn one by one as workers get free. An iterator may be added to while this runs.
        workers: processes, at least 1.
        timeout: seconds that one item may take before its worker is stopped.
        tick: called a few times a second with the number of items begun in the tasks under way.

    Raises:
        UserError: as `work` raised it.
        DataError: a worker was killed before it began.
        RuntimeError: a worker failed by a fault of ours; its traceback is on stderr.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    _start_forkserver()
    waiting = iter(tasks)
    crew: list[_Worker[Task]] = []
    try:
        while True:
            _hand_out(context, work, waiting, crew, workers)
            busy = [worker for worker in crew if worker.task is not None]
            if not busy:
                return
            ready = set(wait([worker.pipe for worker in busy], timeout=_POLL_SECONDS))
            for worker in busy:
                outcome = _collect(worker) if worker.pipe in ready else _overdue(worker, timeout)
                if isinstance(outcome, Lost):
                    crew.remove(worker)
                if outcome is not None:
                    yield outcome
            tick(sum(max(worker.at.value, 0) for worker in crew if worker.task is not None))
    finally:
        for worker in crew:
            _stop(worker)


def _start_forkserver() -> None:
    """Without an ear for Ctrl-C from its first moment on: it is for us, who then stop the workers."""
    if threading.current_thread() is not threading.main_thread():
        forkserver.ensure_running()
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


def _hand_out(
    context: Any,
    work: Callable[[Task, Mark], Result],
    waiting: Iterator[Task],
    crew: list[_Worker[Task]],
    workers: int,
) -> None:
    """A task for everyone who has none, as long as there are some."""
    crew[:] = [worker for worker in crew if worker.task is not None or worker.process.is_alive()]
    while len(crew) < workers or any(worker.task is None for worker in crew):
        task = next(waiting, None)
        if task is None:
            return
        free = next((worker for worker in crew if worker.task is None), None)
        if free is None:
            free = _start(context, work)
            crew.append(free)
        free.task, free.seen, free.since = task, -1, time.monotonic()
        free.at.value = -1
        free.pipe.send(task)


def _start(context: Any, work: Callable[[Task, Mark], Result]) -> _Worker[Task]:
    ours, theirs = context.Pipe()
    at = context.RawValue(ctypes.c_int64, -1)
    process = context.Process(target=_serve, args=(theirs, at, work), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours, at)


def _serve(pipe: Connection, at: Any, work: Callable[[Any, Mark], Any]) -> None:
    """A worker's life: until the parent closes the pipe, or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def mark(item: int) -> None:
        at.value = item

    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            outcome = work(task, mark)
        except UserError as error:
            outcome = error
        pipe.send(outcome)


def _end_with_parent() -> None:
    """A killed parent stops nobody: without this, its writers would go on beside those of the next start."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _collect(worker: _Worker[Task]) -> Done[Task, Any] | Lost[Task]:
    task = worker.task
    assert task is not None
    try:
        result = worker.pipe.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join()
        item, code = worker.at.value, worker.process.exitcode
        _stop(worker)
        if code is None or code >= 0:
            raise RuntimeError(f"a worker process ended with exit code {code} at item {item}") from None
        memory = "; out of memory?" if -code == signal.SIGKILL else ""
        name = f"{signal.Signals(-code).name}{memory}"
        if item < 0:
            raise DataError(
                f"a worker process was killed before it began ({name}); try fewer --workers"
            ) from None
        return Lost(task, item, f"reading it killed the process ({name})")
    if isinstance(result, UserError):
        raise result
    worker.task = None
    return Done(task, result)


def _overdue(worker: _Worker[Task], timeout: float) -> Lost[Task] | None:
    now, item = time.monotonic(), worker.at.value
    if item != worker.seen:
        worker.seen, worker.since = item, now
    if item < 0 or now - worker.since < timeout:  # below 0: it has not begun
        return None
    assert worker.task is not None
    _stop(worker)
    return Lost(worker.task, item, f"reading it took more than {timeout:g} seconds")


def _stop(worker: _Worker[Any]) -> None:
    worker.process.kill()
    worker.process.join(timeout=5)  # a process in an uninterruptible read outlives even this
    worker.pipe.close()
