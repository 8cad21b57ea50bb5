"""From addresses to batches on the device: workers read and augment, the next batch is copied ahead."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from hornet_train.data.batch import Batch, record_stream
from hornet_train.data.collate import Collate, CollatedBatch, OnBad, Slots
from hornet_train.data.order import Address, EpochPlan, evaluation_shard
from hornet_train.data.sending import no_processes, received, too_small
from hornet_train.data.sources.source import Source
from hornet_train.data.worker import BadSample, SampleReader, Samples, set_up_worker
from hornet_train.data.worker_pool import RestartingLoader
from hornet_train.errors import DataError

_log = logging.getLogger("hornet_train")
_warned: set[str] = set()


@dataclass(frozen=True)
class Loaded:
    """A batch, and the samples that could not be read for it.

    Attributes:
        batch: on the device; empty where none of an evaluation's samples could be read.
        bad: in training others stand in for these, in evaluation they are missing.
    """

    batch: Batch
    bad: list[BadSample]


@dataclass(frozen=True)
class LoaderSettings:
    """Who loads batches, and where they go.

    Attributes:
        device: where they go. For CUDA the next one is copied on a stream of its own while the present one
            is computed on.
        workers: processes that read; 0 reads in this process.
        prefetch: batches each worker keeps ready.
    """

    device: torch.device
    workers: int = 0
    prefetch: int = 2

    def slots(self) -> Slots:
        """Shared memory for the batches of a map-style data set, whose workers take turns."""
        return Slots(self.prefetch + 1)


def load_batches(
    settings: LoaderSettings, arguments: Callable[[int], Mapping[str, Any]], *, resumable: bool = True
) -> Iterator[Loaded]:
    """The batches of a DataLoader, in order, on the device. When one of its workers dies, others go on.

    Args:
        arguments: of a DataLoader that gives everything from a batch on, counted from 0; it gives
            `CollatedBatch`, or a DataError to be raised here.
        resumable: whether `arguments` can be asked for any batch but 0.

    Raises:
        DataError: a sample could not be read, and nothing may stand in for it, or workers die again and
            again; on one rank alone.
    """
    if settings.workers and (reason := no_processes(settings.workers)) is not None:
        _warn_once("processes", f"samples are read in this process itself, which takes longer: {reason}")
        settings = replace(settings, workers=0)

    def begin(batch: int) -> DataLoader[Any]:
        return DataLoader(
            num_workers=settings.workers,
            prefetch_factor=settings.prefetch if settings.workers else None,
            pin_memory=settings.device.type == "cuda",
            worker_init_fn=set_up_worker,
            generator=torch.Generator(),  # its own, so that making a loader leaves the global one alone
            **arguments(batch),
        )

    batches = _checked(RestartingLoader(begin, resumable=resumable), settings)
    if settings.device.type == "cuda":
        return _copied_ahead(batches, settings.device)
    return _out_of_slots(batches, settings.workers * (settings.prefetch + 1))


class TrainData(Protocol):
    """One rank's micro-batches of a run."""

    def batches(self, first_step: int, total_steps: int, seen: int = 0) -> Iterator[Loaded]:
        """The micro-batches from `first_step` on, across epochs, without end of epoch.

        `seen`: images of the first step that are left out of it; 0 for streams.

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

    def locate(self, index: int) -> str:
        """What a sample is called, by the `index` that a batch has of it."""
        ...


class TrainLoader:
    """One rank's micro-batches of a plan. A damaged sample is replaced by a spare of its address."""

    def __init__(self, source: Source, samples: Samples, plan: EpochPlan, settings: LoaderSettings) -> None:
        self.source = source
        self.samples = samples
        self.plan = plan
        self.settings = settings

    def batches(self, first_step: int, total_steps: int, seen: int = 0) -> Iterator[Loaded]:
        """See `TrainData`."""
        return load_batches(
            self.settings,
            lambda batch: {
                "dataset": SampleReader(self.source, self.samples),
                "batch_sampler": _Addresses(self.plan.stream(first_step, total_steps, skip=batch, seen=seen)),
                "collate_fn": Collate(self.samples.ragged, "error", self.settings.slots()),
            },
        )


class EvalLoader:
    """One rank's share of every sample, each exactly once over all ranks."""

    def __init__(
        self, source: Source, samples: Samples, settings: LoaderSettings, *, on_bad: OnBad = "error"
    ) -> None:
        """`on_bad`: whether a sample that cannot be read ends the evaluation or is left out of it."""
        self.source = source
        self.samples = samples
        self.settings = settings
        self.on_bad = on_bad

    def __len__(self) -> int:
        return len(self.source)

    def locate(self, index: int) -> str:
        """See `EvalData`."""
        return self.source.locate(index)

    def batches(self, rank: int, world_size: int, batch_size: int) -> Iterator[Loaded]:
        """See `EvalData`."""

        def arguments(batch: int) -> Mapping[str, Any]:
            shard = evaluation_shard(len(self.source), rank, world_size, batch_size)
            return {
                "dataset": SampleReader(self.source, self.samples),
                "batch_sampler": _Addresses(islice(shard, batch, None)),
                "collate_fn": Collate(self.samples.ragged, self.on_bad, self.settings.slots()),
            }

        return load_batches(self.settings, arguments)

    def batch_count(self, rank: int, world_size: int, batch_size: int) -> int:
        """See `EvalData`."""
        return -(-len(range(rank, len(self.source), world_size)) // batch_size)


class _Addresses(Sampler[list[Address]]):
    """The addresses of each batch, as DataLoader asks for them."""

    def __init__(self, batches: Iterable[list[Address]]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[list[Address]]:
        return iter(self.batches)


def _checked(batches: RestartingLoader, settings: LoaderSettings) -> Iterator[CollatedBatch]:
    """The batches; raises the first that is an error, and warns where they do not fit into shared memory."""
    for collated in batches:
        if isinstance(collated, DataError):
            batches.close()
            raise collated
        if collated.unshared:
            _warn_once("size", too_small(collated.unshared * settings.workers * (settings.prefetch + 1)))
        yield collated


def _warn_once(kind: str, text: str) -> None:
    """The first warning of a kind in this process."""
    if kind not in _warned:
        _warned.add(kind)
        _log.warning("%s", text)


def _out_of_slots(batches: Iterator[CollatedBatch], slots: int) -> Iterator[Loaded]:
    """Batches in memory of their own: copies of what workers will write to again. (For CUDA, pinning copies.)

    Args:
        slots: of all workers, for one field; those in use stay mapped, others are let go.
    """
    mapped: dict[int, torch.UntypedStorage] = {}
    for collated in batches:
        tensors = dict(collated.tensors)
        for name in collated.in_slots:
            tensor = tensors[name]
            assert isinstance(tensor, Tensor)
            storage = tensor.untyped_storage()
            mapped.pop(storage.data_ptr(), None)
            mapped[storage.data_ptr()] = storage  # the newest last
            while len(mapped) > slots * len(collated.in_slots):
                del mapped[next(iter(mapped))]
            tensors[name] = _copied(tensor)
        yield Loaded(replace(collated, tensors=tensors).batch(), collated.bad)


def _copied(tensor: Tensor) -> Tensor:
    """A copy in numpy's memory, which a new batch gets again where another was freed."""
    if tensor.dtype == torch.uint8:
        return torch.from_numpy(tensor.numpy().copy(order="K"))
    if not tensor.numel():
        return tensor.clone()
    content = tensor.view(torch.uint8)  # a block; numpy lacks some of torch's types
    return torch.from_numpy(content.numpy().copy()).view(tensor.dtype)


def _copied_ahead(batches: Iterator[CollatedBatch], device: torch.device) -> Iterator[Loaded]:
    """Each batch on the device, the copy of the next one overlapping the work on the present one."""
    stream = torch.cuda.Stream(device)
    ready: Loaded | None = None
    failed: DataError | None = None
    while True:
        try:
            collated = next(batches, None)
        except DataError as error:  # after the batch before it
            collated, failed = None, error
        if collated is None:
            break
        with torch.cuda.stream(stream):
            coming = {
                name: value.to(device, non_blocking=True)
                for name, value in received(collated.tensors).items()
            }
        if ready is not None:
            yield ready
        torch.cuda.current_stream(device).wait_stream(stream)
        record_stream(coming, torch.cuda.current_stream(device))
        ready = Loaded(replace(collated, tensors=coming).batch(), collated.bad)
    if ready is not None:
        yield ready
    if failed is not None:
        raise failed
