"""A worker's work: addresses in, samples out. Samples that cannot be read are reported and replaced."""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from hornet_train.data.memory import keep_little_memory
from hornet_train.data.order import Address
from hornet_train.data.sources.source import Encoded, Fields, Source
from hornet_train.errors import SampleError
from hornet_train.images.decode import decode
from hornet_train.images.orientation import Exif

GROUP = 16  # samples decoded before the first of them is made
GROUP_BYTES = 16 << 20  # of decoded samples, after which none is added to a group
_KEPT_BYTES = 4 * GROUP_BYTES
IGNORED = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)  # by workers; SIGTERM unless from their parent

T = TypeVar("T")


class Samples(Protocol):
    """What a task makes of the fields that storage gives. All methods are pure functions of their arguments.

    Attributes:
        ragged: names of a sample's tensors whose shapes differ from sample to sample; in a batch they stay a
            list.
    """

    @property
    def ragged(self) -> Collection[str]: ...

    def decode(self, fields: Fields) -> Any:
        """What the pixels are and what belongs to them, in whatever form `make` takes it.

        Raises:
            SampleError: the sample is damaged.
        """

    def nbytes(self, decoded: Any) -> int:
        """The memory that a decoded sample takes, about."""

    def make(self, address: Address, decoded: Any) -> dict[str, Any]:
        """Tensors and numbers of one sample, the same names for every sample.

        Args:
            address: where the sample stands, from which all its draws come.
            decoded: what `decode` gave for it: sample `address.index`, or a spare that stands in for it.
        """


def decoded_image(stored: Encoded | Tensor, exif: Exif = "ignore") -> Tensor:
    """The pixels of a stored image, uint8 (3, H, W) RGB: most tasks' `decode` begins with this.

    `exif`: whether to turn it as its EXIF orientation says.

    Raises:
        SampleError: it cannot be decoded; the message names it.
    """
    return stored if isinstance(stored, Tensor) else decode(stored.data, stored.where, exif)


@dataclass(frozen=True, slots=True)
class BadSample:
    """A sample that could not be read: its index, the path or description, and what is wrong with it."""

    index: int
    where: str
    reason: str


def allowed_bad(samples: int, max_bad: float) -> int:
    """How many of the training samples may be unreadable: the share `max_bad`, and in a small set one or two.

    Two always may, of fewer than 40 samples one; none with `max_bad` 0.
    """
    few = max(1, min(2, samples // 20)) if max_bad > 0 else 0
    return max(few, int(max_bad * samples))


Item = tuple[dict[str, Any] | SampleError, list[BadSample]]
"""A sample with the `index` of what it was made of, or the error where neither it nor a spare could be read;
and what could not be read for it. Errors are values: raised in a worker, one would arrive wrapped in a
traceback."""


class _Decoded(NamedTuple):
    """What was found for an address: sample number `sample`, or an error."""

    address: Address
    bad: list[BadSample]
    sample: int
    decoded: Any
    error: SampleError | None


def make_samples(samples: Samples, addresses: Iterable[Address], read: Callable[[int], Fields]) -> list[Item]:
    """Read, decode and make the samples of a batch; a damaged one is replaced by a spare of its address.

    Args:
        samples: the task's.
        addresses: of the batch.
        read: gives the stored fields of a sample by its index; raises SampleError where it cannot.
    """

    def nbytes(found: _Decoded) -> int:
        return 0 if found.error is not None else samples.nbytes(found.decoded)

    items: list[Item] = []
    for group in grouped((_decode(samples, address, read) for address in addresses), nbytes):
        for address, bad, sample, decoded, error in group:
            if error is not None:
                items.append((error, bad))
            else:
                items.append(({**samples.make(address, decoded), "index": sample}, bad))
    return items


def _decode(samples: Samples, address: Address, read: Callable[[int], Fields]) -> _Decoded:
    bad: list[BadSample] = []
    first: SampleError | None = None
    for sample in (address.index, *address.spares):
        try:
            return _Decoded(address, bad, sample, samples.decode(read(sample)), None)
        except SampleError as error:
            first = first or error
            bad.append(BadSample(sample, error.where, error.reason))
    return _Decoded(address, bad, address.index, None, first)


class SampleReader(Dataset[Item]):
    """Samples of a source with random access, by their addresses."""

    def __init__(self, source: Source, samples: Samples) -> None:
        self.source = source
        self.samples = samples

    def __getitems__(self, addresses: list[Address]) -> list[Item]:
        """As DataLoader asks for a batch."""
        return make_samples(self.samples, addresses, self.source.read)


def grouped(decoded: Iterable[T], size: Callable[[T], int]) -> Iterator[list[T]]:
    """Several decoded samples at a time, so that they can be transformed one after the other.

    A decoder evicts what transforms need from a processor's caches, and the other way round; taking turns
    sample by sample costs a tenth of a training image.

    Args:
        decoded: an iterable that decodes one sample each time it is asked for the next.
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
    """Hold back the signals that stop a run, which would end a process that is started here and not yet set
    up."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, *IGNORED})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def set_up_worker(_worker: int = 0) -> None:
    """What a worker process does first; it was started with `signals_held`."""
    torch.set_num_threads(1)
    # a signal to stop goes to all processes of a run, but the training process needs data until it stops
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.freeze()  # the parent's objects are not examined again, which would copy their memory page by page
    # the memory of decoded images is kept for the next ones, which saves a quarter of their decoding
    keep_little_memory(_KEPT_BYTES)


def _end_with_parent() -> None:
    """A SIGTERM from its parent ends this process: multiprocessing sends it to workers that remain."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
