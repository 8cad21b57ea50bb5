"""The thread that asks the model: batches, waiting that was given up, and memory that is not enough."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest
import torch

from hornet_train.errors import OutOfMemory
from hornet_train.run.asking import Asking
from hornet_train.serving.model_thread import ModelThread


class Slow:
    """Instead of a model: answers with the numbers it is given, when it is let go."""

    def __init__(self, fits: int = 100) -> None:
        self.let_go, self.begun, self.fits = threading.Event(), threading.Event(), fits
        self.asked: list[list[int]] = []

    def answers(self, items: list[int]) -> list[dict[str, Any]]:
        self.begun.set()
        assert self.let_go.wait(10)
        if len(items) > self.fits or 13 in items:
            raise torch.OutOfMemoryError
        if 7 in items:
            raise ValueError("seven")
        self.asked.append(items)
        return [{"number": item} for item in items]


def started(model: Slow, batch_size: int = 4) -> tuple[ModelThread, list[int]]:
    sizes: list[int] = []
    return ModelThread(cast("Asking", model), batch_size, sizes.append), sizes


def put(thread: ModelThread, numbers: range) -> list[Any]:
    return [thread.put(cast("Any", number)) for number in numbers]


def test_what_waits_goes_together_and_what_was_given_up_does_not() -> None:
    model = Slow()
    thread, sizes = started(model)
    first = put(thread, range(1))
    assert model.begun.wait(10)
    waiting = put(thread, range(1, 7))
    assert waiting[1].cancel()
    assert not first[0].cancel()  # it is asked about
    model.let_go.set()
    thread.close()
    assert model.asked == [[0], [1, 3, 4], [5, 6]]
    assert sizes == [1, 3, 2]
    assert [one.result()["number"] for one in (*first, *waiting) if not one.cancelled()] == [0, 1, 3, 4, 5, 6]


def test_pictures_that_do_not_fit_together_are_asked_about_one_by_one() -> None:
    model = Slow(fits=1)
    thread, _ = started(model)
    model.let_go.set()
    found = put(thread, range(11, 15))
    thread.close()
    assert [found[place].result()["number"] for place in (0, 1, 3)] == [11, 12, 14]
    with pytest.raises(OutOfMemory, match="scale it down"):
        found[2].result()


def test_an_error_goes_to_those_who_wait_and_the_thread_goes_on() -> None:
    model = Slow()
    thread, _ = started(model, batch_size=1)
    model.let_go.set()
    found = put(thread, range(6, 9))
    thread.close()
    with pytest.raises(ValueError, match="seven"):
        found[1].result()
    assert [found[place].result()["number"] for place in (0, 2)] == [6, 8]
