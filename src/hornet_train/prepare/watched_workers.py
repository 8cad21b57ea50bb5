"""A pool of worker processes that survives files which crash a worker or block it forever.

A `ProcessPoolExecutor` breaks down entirely when one worker dies, and cannot say which file was the cause.
Here each worker has a pipe and a shared number, the item it is working on, so that the parent can name the
file that killed or blocks a worker, start another worker, and continue.
"""

from __future__ import annotations

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
from hornet_train.prepare.shared_number import SharedNumber

Task = TypeVar("Task")
Result = TypeVar("Result")
BeginItem = Callable[[int], None]  # called by a worker with the number of the item that it begins

_POLL_SECONDS = 0.25
# Imported once, by the fork server that starts the workers, so that replacing a worker costs little.
_PRELOAD = ["hornet_train.prepare.examine_images", "hornet_train.prepare.shard_files"]


@dataclass(frozen=True)
class Done(Generic[Task, Result]):
    """A finished task and its result."""

    task: Task
    result: Result


@dataclass(frozen=True)
class Lost(Generic[Task]):
    """A task whose worker died or was stopped.

    Attributes:
        task: the task; there is no result for any of its items.
        item: the item that the worker was working on.
        reason: what happened, in a few words.
    """

    task: Task
    item: int
    reason: str


@dataclass
class _Worker(Generic[Task]):
    process: Any
    pipe: Connection
    current_item: SharedNumber  # -1 before the first item of a task
    task: Task | None = None
    last_item: int = -1  # `current_item` when the parent last looked
    item_since: float = field(default_factory=time.monotonic)  # when the parent first saw `last_item`


def run_watched(
    work: Callable[[Task, BeginItem], Result],
    tasks: Iterable[Task],
    *,
    workers: int,
    timeout: float,
    on_progress: Callable[[int], None],
) -> Iterator[Done[Task, Result] | Lost[Task]]:
    """Run tasks in worker processes; yields outcomes in the order of completion.

    Args:
        work: called in a worker as `work(task, begin_item)`; it calls `begin_item(i)` before item i of the
            task. A module-level function with picklable arguments and results.
        tasks: consumed one by one as workers become free. The iterator may grow while this runs.
        workers: number of processes, at least 1.
        timeout: seconds that one item may take before its worker is stopped.
        on_progress: called a few times a second with the number of items begun in the unfinished tasks.

    Raises:
        UserError: as `work` raised it.
        DataError: a worker was killed before it began.
        RuntimeError: a worker failed because of a bug of ours; its traceback is on stderr.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    _start_forkserver()
    remaining = iter(tasks)
    pool: list[_Worker[Task]] = []
    try:
        while True:
            _assign_tasks(context, work, remaining, pool, workers)
            busy = [worker for worker in pool if worker.task is not None]
            if not busy:
                return
            ready = set(wait([worker.pipe for worker in busy], timeout=_POLL_SECONDS))
            for worker in busy:
                outcome = _receive(worker) if worker.pipe in ready else _stop_if_overdue(worker, timeout)
                if isinstance(outcome, Lost):
                    pool.remove(worker)
                if outcome is not None:
                    yield outcome
            on_progress(sum(max(worker.current_item.value, 0) for worker in pool if worker.task is not None))
    finally:
        for worker in pool:
            _stop(worker)


def _start_forkserver() -> None:
    """Start the fork server with Ctrl-C ignored: the parent handles Ctrl-C and then stops the workers."""
    if threading.current_thread() is not threading.main_thread():
        forkserver.ensure_running()
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


def _assign_tasks(
    context: Any,
    work: Callable[[Task, BeginItem], Result],
    remaining: Iterator[Task],
    pool: list[_Worker[Task]],
    workers: int,
) -> None:
    """Give every idle worker a task while tasks remain, starting workers up to `workers`."""
    pool[:] = [worker for worker in pool if worker.task is not None or worker.process.is_alive()]
    while len(pool) < workers or any(worker.task is None for worker in pool):
        task = next(remaining, None)
        if task is None:
            return
        idle = next((worker for worker in pool if worker.task is None), None)
        if idle is None:
            idle = _start_worker(context, work)
            pool.append(idle)
        idle.task, idle.last_item, idle.item_since = task, -1, time.monotonic()
        idle.current_item.value = -1
        idle.pipe.send(task)


def _start_worker(context: Any, work: Callable[[Task, BeginItem], Result]) -> _Worker[Task]:
    ours, theirs = context.Pipe()
    current_item = SharedNumber(-1)
    process = context.Process(target=_worker_main, args=(theirs, current_item, work), daemon=True)
    process.start()
    theirs.close()
    return _Worker(process, ours, current_item)


def _worker_main(pipe: Connection, current_item: SharedNumber, work: Callable[[Any, BeginItem], Any]) -> None:
    """A worker: receive a task, work, send the result, until the parent closes the pipe or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    threading.Thread(target=_exit_with_parent, daemon=True).start()

    def begin_item(item: int) -> None:
        current_item.value = item

    while True:
        try:
            task = pipe.recv()
        except EOFError:
            return
        try:
            outcome = work(task, begin_item)
        except UserError as error:
            outcome = error
        pipe.send(outcome)


def _exit_with_parent() -> None:
    """Exit when the parent ends. A killed parent stops no worker: without this, workers would go on writing
    beside those of the next start.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _receive(worker: _Worker[Task]) -> Done[Task, Any] | Lost[Task]:
    """The outcome of a worker whose pipe is readable: it has sent a result, or it has died."""
    task = worker.task
    assert task is not None
    try:
        result = worker.pipe.recv()
    except (EOFError, ConnectionResetError):
        worker.process.join()
        item, code = worker.current_item.value, worker.process.exitcode
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


def _stop_if_overdue(worker: _Worker[Task], timeout: float) -> Lost[Task] | None:
    """Stop a worker that has been at one item for `timeout` seconds; None for a worker within its time."""
    now, item = time.monotonic(), worker.current_item.value
    if item != worker.last_item:
        worker.last_item, worker.item_since = item, now
    if item < 0 or now - worker.item_since < timeout:  # below 0: it has not begun
        return None
    assert worker.task is not None
    _stop(worker)
    return Lost(worker.task, item, f"reading it took more than {timeout:g} seconds")


def _stop(worker: _Worker[Any]) -> None:
    worker.process.kill()
    worker.process.join(timeout=5)  # a process in an uninterruptible read outlives even SIGKILL
    worker.pipe.close()
    worker.current_item.close()
