"""From addresses to batches on the device: workers read and augment, the next batch is copied ahead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from hornet_train.data.sampler import EpochPlan, SampleAddress, evaluation_shard
from hornet_train.errors import SampleError

Batch = dict[str, Tensor]


class Samples(Protocol):
    """What can be trained or evaluated on. `sample` is a pure function of the address."""

    def __len__(self) -> int: ...

    def sample(self, epoch: int, index: int) -> dict[str, Any]:
        """Tensors and numbers of one sample, the same names and shapes for every sample.

        Raises:
            SampleError: the sample cannot be read.
        """
        ...


class _Addressed(Dataset[dict[str, Any] | SampleError]):
    """Hands a sample's error over as a value: raised in a worker, it would arrive wrapped in a traceback."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __getitem__(self, address: SampleAddress) -> dict[str, Any] | SampleError:
        try:
            return self.samples.sample(*address)
        except SampleError as error:
            return error


class _Batches(Sampler[list[SampleAddress]]):
    def __init__(self, batches: Iterable[list[SampleAddress]]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[list[SampleAddress]]:
        return iter(self.batches)


def _collate(items: list[dict[str, Any] | SampleError]) -> Batch | SampleError:
    for item in items:
        if isinstance(item, SampleError):
            return item
    batch: Batch = default_collate(items)
    return batch


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)


class Loader:
    """Batches of one rank, in order, on the device.

    Args:
        samples: what to read from.
        device: where the batches go. For CUDA the next batch is copied on a stream of its own while the
            present one is computed on.
        workers: processes that read; 0 reads in this process.
        prefetch: batches each worker keeps ready.
    """

    def __init__(
        self, samples: Samples, *, device: torch.device, workers: int = 0, prefetch: int = 2
    ) -> None:
        self.samples = samples
        self.device = device
        self.workers = workers
        self.prefetch = prefetch

    def training(self, plan: EpochPlan, first_step: int, total_steps: int) -> Iterator[Batch]:
        """This rank's micro-batches from `first_step` on, across epochs, without end of epoch."""
        return self._batches(plan.stream(first_step, total_steps))

    def evaluation(self, rank: int, world_size: int, batch_size: int) -> Iterator[Batch]:
        """This rank's share of every sample, each exactly once over all ranks."""
        return self._batches(evaluation_shard(len(self.samples), rank, world_size, batch_size))

    def _batches(self, addresses: Iterable[list[SampleAddress]]) -> Iterator[Batch]:
        loader: DataLoader[Any] = DataLoader(
            _Addressed(self.samples),
            batch_sampler=_Batches(addresses),
            num_workers=self.workers,
            prefetch_factor=self.prefetch if self.workers else None,
            collate_fn=_collate,
            pin_memory=self.device.type == "cuda",
            worker_init_fn=_one_thread,
            generator=torch.Generator(),  # its own, so that making a loader leaves the global one alone
        )
        batches = map(_raise_error, loader)
        return _copied_ahead(batches, self.device) if self.device.type == "cuda" else batches


def _raise_error(batch: Batch | SampleError) -> Batch:
    if isinstance(batch, SampleError):
        raise batch
    return batch


def _copied_ahead(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """Each batch on the device, the copy of the next one overlapping the work on the present one."""
    stream = torch.cuda.Stream(device)
    ready: Batch | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            coming = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
        if ready is not None:
            yield ready
        torch.cuda.current_stream(device).wait_stream(stream)
        for value in coming.values():
            value.record_stream(torch.cuda.current_stream(device))
        ready = coming
    if ready is not None:
        yield ready
