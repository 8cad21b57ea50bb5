"""Running out of memory: what is said of the batch that did not fit, and the largest one tried beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch

from hornet_train.data.batch import Batch, size, stacked
from hornet_train.engine.task import Task
from hornet_train.errors import OutOfMemory

_OF_THE_HOST = "can't allocate memory"  # torch's words, where a GPU has an exception of its own
_SHOWN = 16  # samples
REMEDY = (
    "a smaller micro_batch_size takes less and leaves batch_size as it is; model.grad_checkpointing=true, "
    "precision=bf16 and smaller images do, too"
)

EVAL_REMEDY = (
    "smaller images and precision=bf16 take less; so does a smaller eval.batch_size (batch_size of "
    "hornet-eval) where the images of a batch go through the model together"
)


@runtime_checkable
class Describing(Protocol):
    """What a task may have besides what `Task` asks for."""

    def contents(self, batch: Batch) -> Sequence[str]:
        """What takes memory in each sample of a batch, in a few words: its size, the number of objects."""


class DoesNotFit(Exception):  # noqa: N818 - for the trainer, which knows what to say
    """The memory was not enough for a micro-batch."""

    def __init__(self, batch: Batch) -> None:
        super().__init__()
        self.batch = batch


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that a GPU or the host has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and _OF_THE_HOST in str(error)
    )


@contextmanager
def fits(batch: Batch) -> Iterator[None]:
    """Raises DoesNotFit where the memory is not enough for what is done with a micro-batch."""
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise DoesNotFit(batch) from error


def out_of_memory(
    task: Task, batch: Batch, when: str, name: Callable[[int], str], remedy: str = REMEDY
) -> OutOfMemory:
    """The error for the user.

    Args:
        task: of the batch.
        batch: that did not fit.
        when: that was, in a few words.
        name: what a sample is called, by its index.
        remedy: what takes less.
    """
    number = size(batch)
    contents = task.contents(batch) if isinstance(task, Describing) else [""] * number
    names = [name(index) for index in stacked(batch, "index").tolist()] if "index" in batch else [""] * number
    words = [
        f"{called} ({about})" if called and about else called or about
        for called, about in zip(names, contents, strict=True)
    ]
    shown = "; ".join(words[:_SHOWN]) + ("; ..." if number > _SHOWN else "")
    samples = f"{number} image{'s' * (number != 1)}"
    return OutOfMemory(f"out of memory {when}, a batch of {samples}: {shown}. {remedy}")
