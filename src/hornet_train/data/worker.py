"""A worker's work: addresses in, samples out, what cannot be read told and replaced."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from hornet_train.data.memory import keep_little_memory
from hornet_train.data.order import Address
from hornet_train.errors import SampleError

GROUP = 16  # images read before the first of them is transformed
GROUP_BYTES = 16 << 20  # what they may take decoded, before the last of them
_KEPT_BYTES = 4 * GROUP_BYTES
IGNORED = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)  # by readers; SIGTERM but for their parent's

T = TypeVar("T")


class Samples(Protocol):
    """What can be trained or evaluated on. Both methods are pure functions of their arguments."""

    def __len__(self) -> int: ...

    def read(self, image: int) -> tuple[Tensor, Any]:
        """Image number `image`, decoded, and its target.

        Raises:
            SampleError: it cannot be read.
        """
        ...

    def make(self, address: Address, image: Tensor, target: Any) -> dict[str, Any]:
        """Tensors and numbers of one sample, the same names and shapes for every sample.

        Args:
            address: where the sample stands, from which all its draws come.
            image, target: what was read for it: number `address.index`, or a spare that stands in for it.
        """
        ...


@dataclass(frozen=True, slots=True)
class BadSample:
    """A sample that could not be read: its index, the path or description, and what is wrong with it."""

    index: int
    where: str
    reason: str


Item = tuple[dict[str, Any] | SampleError, list[BadSample]]
_Read = tuple[Address, tuple[int, Tensor, Any] | SampleError, list[BadSample]]  # with the number of the image


class SampleReader(Dataset[Item]):
    """Samples by their addresses, each with the `index` of the image that it is of, and beside it those that
    could not be read for it.

    Errors are handed over as values: raised in a worker, one would arrive wrapped in a traceback.
    """

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __getitems__(self, addresses: list[Address]) -> list[Item]:
        """As DataLoader asks for a batch."""
        items: list[Item] = []
        for group in grouped(map(self._read, addresses), _size):
            for address, found, bad in group:
                if isinstance(found, SampleError):
                    items.append((found, bad))
                    continue
                image, pixels, target = found
                items.append(({**self.samples.make(address, pixels, target), "index": image}, bad))
        return items

    def _read(self, address: Address) -> _Read:
        bad: list[BadSample] = []
        first: SampleError | None = None
        for image in (address.index, *address.spares):
            try:
                return address, (image, *self.samples.read(image)), bad
            except SampleError as error:
                first = first or error
                bad.append(BadSample(image, error.where, error.reason))
        assert first is not None
        return address, first, bad


def _size(read: _Read) -> int:
    return 0 if isinstance(read[1], SampleError) else read[1][1].nbytes


def grouped(decoded: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Several decoded images at a time, so that they can be transformed one after the other.

    A decoder evicts what transforms need from a processor's caches, and the other way round; taking turns
    image by image costs a tenth of a training image.

    Args:
        decoded: of what images are decoded when it is iterated over.
        size: of one, in bytes.

    Returns:
        Lists of at most `GROUP`, each emptied when the next is asked for.
    """
    group: list[T] = []
    held = 0
    for one in decoded:
        group.append(one)
        held += size(one)
        if len(group) == GROUP or held >= GROUP_BYTES:
            yield group
            group.clear()
            held = 0
    if group:
        yield group


@contextmanager
def signals_held() -> Iterator[None]:
    """What asks a run to stop waits, and does not end a process that is started here and not yet set up."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, *IGNORED})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def set_up_worker(_worker: int = 0) -> None:
    """What a reading process does first; it was started with `signals_held`."""
    torch.set_num_threads(1)
    # what asks a run to stop goes to its whole group, but the process that trains wants data until it has
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.freeze()  # what the parent made is not looked through again, nor copied page by page for it
    # the memory of decoded images is kept for the next ones, which saves a quarter of their decoding
    keep_little_memory(_KEPT_BYTES)


def _end_with_parent() -> None:
    """A SIGTERM of its parent ends this process: multiprocessing sends it to workers that are left."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
