"""From addresses to batches on the device: workers read and augment, the next batch is copied ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal, Protocol

import torch
from torch.utils.data import DataLoader, Sampler, get_worker_info

from hornet_train.data.collate import Batch, Slots, stacked
from hornet_train.data.order import Address, EpochPlan, evaluation_shard
from hornet_train.data.worker import BadSample, Item, SampleReader, Samples, set_up_worker
from hornet_train.data.worker_pool import Delivery
from hornet_train.errors import DataError, SampleError

OnBad = Literal["error", "skip"]


@dataclass(frozen=True)
class Loaded:
    """A batch, and the samples that could not be read for it.

    Attributes:
        batch: on the device; empty where none of an evaluation's samples could be read.
        bad: in training others stand in for these, in evaluation they are missing.
        lent: names of those in the batch whose memory its worker will write to again.
    """

    batch: Batch
    bad: list[BadSample]
    lent: frozenset[str] = frozenset()

    def pin_memory(self) -> Loaded:
        """As DataLoader asks of types that it does not know."""
        return Loaded({name: value.pin_memory() for name, value in self.batch.items()}, self.bad)


class _Batches(Sampler[list[Address]]):
    def __init__(self, batches: Iterable[list[Address]]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[list[Address]]:
        return iter(self.batches)


@dataclass(frozen=True)
class _Collate:
    """Samples to a batch. The first that could not be read is raised in the main process, or left out."""

    on_bad: OnBad
    slots: Slots

    def __call__(self, items: list[Item]) -> Any:
        bad = [one for _, some in items for one in some]
        good = []
        for item, _ in items:
            if not isinstance(item, SampleError):
                good.append(item)
            elif self.on_bad == "error":
                return item
        if not good:
            return Loaded({}, bad)
        if get_worker_info() is None:
            return Loaded(stacked(good), bad)
        batch = stacked(good, self.slots)
        return Loaded(batch, bad, frozenset(name for name in batch if self.slots.holds(batch[name])))


@dataclass(frozen=True)
class Reading:
    """How batches come about.

    Attributes:
        device: where they go. For CUDA the next one is copied on a stream of its own while the present one
            is computed on.
        workers: processes that read; 0 reads in this process.
        prefetch: batches each worker keeps ready.
    """

    device: torch.device
    workers: int = 0
    prefetch: int = 2

    def batches(
        self, what: Callable[[int], Mapping[str, Any]], *, resumable: bool = True
    ) -> Iterator[Loaded]:
        """What a DataLoader gives, in order, on the device. Where one of its workers dies, others go on.

        Args:
            what: arguments of a DataLoader that gives everything from a batch on, counted from 0.
            resumable: whether `what` can be asked for anything but 0.

        Raises:
            DataError: a sample could not be read, and nothing may stand in for it, or workers die again and
                again; told by one rank.
        """

        def begin(batch: int) -> DataLoader[Any]:
            return DataLoader(
                num_workers=self.workers,
                prefetch_factor=self.prefetch if self.workers else None,
                pin_memory=self.device.type == "cuda",
                worker_init_fn=set_up_worker,
                generator=torch.Generator(),  # its own, so that making a loader leaves the global one alone
                **what(batch),
            )

        batches = map(_raise_error, Delivery(begin, resumable=resumable))
        if self.device.type == "cuda":
            return _copied_ahead(batches, self.device)
        return _owned(batches, self.workers * (self.prefetch + 1))

    def collate(self, on_bad: OnBad) -> _Collate:
        """What makes batches of a map-style data set's samples, each of whose workers has its turn."""
        return _Collate(on_bad, Slots(self.prefetch + 1))


class TrainData(Protocol):
    """One rank's micro-batches of a run."""

    def batches(self, first_step: int, total_steps: int) -> Iterator[Loaded]:
        """The micro-batches from `first_step` on, across epochs, without end of epoch.

        Raises:
            SampleError: neither a sample nor any that may stand in for it can be read.
        """
        ...


class EvalData(Protocol):
    """Samples of which an evaluation sees each exactly once over all ranks."""

    def __len__(self) -> int: ...

    def batches(self, rank: int, world_size: int, batch_size: int) -> Iterator[Loaded]:
        """One rank's share in batches of at most `batch_size`.

        Raises:
            SampleError: a sample cannot be read, unless bad ones are skipped.
        """
        ...

    def batch_count(self, rank: int, world_size: int, batch_size: int) -> int:
        """How many batches `batches` gives; another number on each rank where their shares differ."""
        ...


class TrainLoader:
    """One rank's micro-batches of a plan. What cannot be read is replaced by a spare of its address."""

    def __init__(self, samples: Samples, plan: EpochPlan, reading: Reading) -> None:
        self.samples = samples
        self.plan = plan
        self.reading = reading

    def batches(self, first_step: int, total_steps: int) -> Iterator[Loaded]:
        """See `TrainData`."""
        return self.reading.batches(
            lambda batch: {
                "dataset": SampleReader(self.samples),
                "batch_sampler": _Batches(self.plan.stream(first_step, total_steps, skip=batch)),
                "collate_fn": self.reading.collate("error"),
            }
        )


class EvalLoader:
    """One rank's share of every sample, each exactly once over all ranks."""

    def __init__(self, samples: Samples, reading: Reading, *, on_bad: OnBad = "error") -> None:
        """`on_bad`: whether a sample that cannot be read ends the evaluation or is left out of it."""
        self.samples = samples
        self.reading = reading
        self.on_bad = on_bad

    def __len__(self) -> int:
        return len(self.samples)

    def batches(self, rank: int, world_size: int, batch_size: int) -> Iterator[Loaded]:
        """See `EvalData`."""

        def what(batch: int) -> Mapping[str, Any]:
            shard = evaluation_shard(len(self.samples), rank, world_size, batch_size)
            return {
                "dataset": SampleReader(self.samples),
                "batch_sampler": _Batches(islice(shard, batch, None)),
                "collate_fn": self.reading.collate(self.on_bad),
            }

        return self.reading.batches(what)

    def batch_count(self, rank: int, world_size: int, batch_size: int) -> int:
        """See `EvalData`."""
        return -(-len(range(rank, len(self.samples), world_size)) // batch_size)


def _raise_error(loaded: Loaded | DataError) -> Loaded:
    if isinstance(loaded, DataError):
        raise loaded
    return loaded


def _owned(batches: Iterator[Loaded], slots: int) -> Iterator[Loaded]:
    """Copies of what is lent. For CUDA, pinning is the copy.

    Args:
        slots: of all workers, for one name; those in use stay mapped, others are let go.
    """
    mapped: dict[int, torch.UntypedStorage] = {}
    for loaded in batches:
        batch = dict(loaded.batch)
        for name in loaded.lent:
            storage = batch[name].untyped_storage()
            mapped.pop(storage.data_ptr(), None)
            mapped[storage.data_ptr()] = storage  # the newest last
            while len(mapped) > slots * len(loaded.lent):
                del mapped[next(iter(mapped))]
            # numpy's memory, see `mixing`
            batch[name] = torch.from_numpy(batch[name].numpy().copy(order="K"))
        yield Loaded(batch, loaded.bad)


def _copied_ahead(batches: Iterator[Loaded], device: torch.device) -> Iterator[Loaded]:
    """Each batch on the device, the copy of the next one overlapping the work on the present one."""
    stream = torch.cuda.Stream(device)
    ready: Loaded | None = None
    failed: DataError | None = None
    while True:
        try:
            loaded = next(batches, None)
        except DataError as error:  # after the batch before it
            loaded, failed = None, error
        if loaded is None:
            break
        with torch.cuda.stream(stream):
            coming = {name: value.to(device, non_blocking=True) for name, value in loaded.batch.items()}
        if ready is not None:
            yield ready
        torch.cuda.current_stream(device).wait_stream(stream)
        for value in coming.values():
            value.record_stream(torch.cuda.current_stream(device))
        ready = replace(loaded, batch=coming)
    if ready is not None:
        yield ready
    if failed is not None:
        raise failed
