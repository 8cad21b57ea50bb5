"""A thread that asks the model: what arrives while it is at work waits, and then goes through it together."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future

from hornet_train.data.worker import Item
from hornet_train.engine.out_of_memory import is_out_of_memory
from hornet_train.errors import OutOfMemory
from hornet_train.run.asking import Asking
from hornet_train.tasks.predictor_types import Answer

_Waiting = tuple[Item, "Future[Answer]"]


class ModelThread:
    """Answers for pictures, in batches, one after the other. Picture by picture the answer is the same."""

    def __init__(self, asking: Asking, batch_size: int, observe: Callable[[int], None]) -> None:
        """Start.

        Args:
            batch_size: pictures that go through the model at once, at most.
            observe: is told how many did.
        """
        self._asking, self._batch_size, self._observe = asking, batch_size, observe
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    def put(self, item: Item) -> Future[Answer]:
        """The answer to come. One that is cancelled before its turn never goes through the model."""
        future: Future[Answer] = Future()
        self._queue.put((item, future))
        return future

    def close(self) -> None:
        """End when what waits is answered."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        going = True
        while going:
            first = self._queue.get()
            if first is None:
                return
            batch = [first]
            while len(batch) < self._batch_size:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    going = False
                    break
                batch.append(more)
            wanted = [(item, future) for item, future in batch if future.set_running_or_notify_cancel()]
            if wanted:
                self._observe(len(wanted))
                self._answer(wanted)

    def _answer(self, batch: list[_Waiting]) -> None:
        try:
            answers = self._asking.answers([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - whatever it is goes to those who wait, and is raised there
            if is_out_of_memory(error) and len(batch) > 1:
                for one in batch:
                    self._answer([one])
                return
            if is_out_of_memory(error):
                error = OutOfMemory("the picture does not fit into memory: scale it down")
            for _, future in batch:
                future.set_exception(error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            future.set_result(answer)
