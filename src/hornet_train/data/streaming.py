"""Streaming: shards read from their beginning to their end, for data that are too far away for random access.

An epoch permutes the shards and deals them out to the streams, one stream for each worker of each rank. A
stream reads its shards one after the other and shuffles within blocks of samples that it holds in memory. All
of that is a function of (seed, epoch, stream), so a run goes on anywhere without a state of its own. Unlike
with random access, which samples meet in a step depends on the numbers of ranks and workers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from itertools import accumulate, islice
from typing import Any

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from hornet_train.data.address import block_order, spare_rng
from hornet_train.data.collate import Collate, CollatedBatch, OnBad
from hornet_train.data.loader import Loaded, LoaderSettings, load_batches
from hornet_train.data.order import Address, spares_of
from hornet_train.data.sources.source import Encoded, Fields, Shards
from hornet_train.data.stream_plan import StreamPlan
from hornet_train.data.worker import Samples, make_samples
from hornet_train.errors import DataError


class _Stream(IterableDataset[CollatedBatch | DataError], ABC):
    """Batches of shards. Errors are values: raised in a worker, one would arrive wrapped in a traceback."""

    def __iter__(self) -> Iterator[CollatedBatch | DataError]:
        info = get_worker_info()
        try:
            yield from self.batches(info.id if info else 0, info.num_workers if info else 1)
        except DataError as error:
            yield error

    @abstractmethod
    def batches(self, worker: int, workers: int) -> Iterator[CollatedBatch | DataError]:
        """The batches of one worker; raises DataError."""


class _TrainStream(_Stream):
    """This rank's micro-batches from one on, each in the worker whose turn it is."""

    def __init__(
        self, shards: Shards, samples: Samples, plan: StreamPlan, block: int, micro_batches: range
    ) -> None:
        """`micro_batches`: which of the run's."""
        self.shards = shards
        self.samples = samples
        self.plan = plan
        self.block = block
        self.micro_batches = micro_batches
        self.collate = Collate(samples.ragged, "error")

    def batches(self, worker: int, workers: int) -> Iterator[CollatedBatch | DataError]:
        plan = self.plan
        per_epoch = plan.steps_per_epoch * plan.micro_per_step
        present, lanes = -1, dict[int, Iterator[tuple[int, Fields]]]()
        for micro_batch in self.micro_batches[worker::workers]:
            epoch, position = divmod(micro_batch, per_epoch)
            turn, lane = divmod(position, plan.workers)  # not `worker`: a resume begins anywhere
            if epoch != present:
                present, lanes = epoch, {}
            if lane not in lanes:
                lanes[lane] = self._shuffled(epoch, lane, turn * plan.micro_batch_size)
            stored = dict(islice(lanes[lane], plan.micro_batch_size))
            step, micro = divmod(micro_batch, plan.micro_per_step)
            addresses = self._addresses(list(stored), epoch, step, micro)
            yield self.collate(make_samples(self.samples, addresses, stored.__getitem__))

    def _shuffled(self, epoch: int, lane: int, start: int) -> Iterator[tuple[int, Fields]]:
        """(index in the data set, fields) of a worker's epoch from its `start`-th sample on."""
        shards = self.plan.shards(epoch, lane)
        stream = self.plan.rank * self.plan.workers + lane
        block, skipped = divmod(start, self.block)
        samples = _in_order(self.shards, shards, block * self.block)
        while items := list(islice(samples, self.block)):
            order = block_order(self.plan.seed, epoch, stream, block, len(items))
            for at in order[skipped:].tolist():
                yield items[at]
            block, skipped = block + 1, 0

    def _addresses(self, indices: list[int], epoch: int, step: int, micro: int) -> list[Address]:
        """Of a micro-batch's samples; others of the same micro-batch are the spares of each."""
        plan = self.plan
        spares = spares_of(np.arange(len(indices)), spare_rng(plan.seed, step, plan.rank, micro))
        return [
            Address(epoch, index, spares=tuple(indices[place] for place in others))
            for index, others in zip(indices, spares, strict=True)
        ]


def _in_order(shards: Shards, chosen: list[int], start: int) -> Iterator[tuple[int, Fields]]:
    """(index in the data set, fields) of the chosen shards one after the other, from the `start`-th on.

    Raises:
        DataError: a shard holds fewer samples than it said.
    """
    origins = [0, *accumulate(shards.lengths)]
    for shard in chosen:
        length = shards.lengths[shard]
        if start >= length:
            start -= length
            continue
        at, last = start, ""
        for fields in islice(shards.read(shard, start), length - start):
            yield origins[shard] + at, fields
            at, last = at + 1, _where(fields)
        if at != length:
            error = DataError(
                f"shard {shard + 1} of {len(origins) - 1} ends after {at:,} of {length:,} samples{last}: it "
                "has been written again since this run started; start it again"
            )
            error.of_one_rank = True
            raise error
        start = 0


def _where(fields: Fields) -> str:
    """Where the first file among the fields lies, in brackets; nothing without one."""
    files = (value for value in fields.values() if isinstance(value, Encoded))
    return next((f" (with {file.where})" for file in files), "")


class StreamTrainLoader:
    """One rank's micro-batches of a stream plan."""

    def __init__(
        self, shards: Shards, samples: Samples, plan: StreamPlan, settings: LoaderSettings, *, block: int
    ) -> None:
        """`block`: samples that each worker holds, encoded, and shuffles; at least 1."""
        self.shards = shards
        self.samples = samples
        self.plan = plan
        self.settings = settings
        self.block = block

    def batches(self, first_step: int, total_steps: int, seen: int = 0) -> Iterator[Loaded]:
        """See `TrainData`. Of what came before, at most a block is read again, and nothing decoded.

        Raises DataError where a shard is not what it was.
        """
        self.plan.micro_sizes(first_step, seen)  # raises ValueError where some are seen
        each = self.plan.micro_per_step
        micro_batches = range(first_step * each, total_steps * each)

        def arguments(batch: int) -> Mapping[str, Any]:
            rest = micro_batches[batch:]
            data = _TrainStream(self.shards, self.samples, self.plan, self.block, rest)
            return {"dataset": data, "batch_size": None, "collate_fn": _unchanged}

        return load_batches(self.settings, arguments)


def _evaluated_by(stream: int, streams: int, shards: Shards) -> list[int]:
    """The shards that one of the streams of an evaluation reads."""
    return list(range(len(shards.lengths)))[stream::streams]


class _EvalStream(_Stream):
    """One rank's batches, of the shards that each of its workers reads."""

    def __init__(
        self, shards: Shards, samples: Samples, ranks: tuple[int, int], batch_size: int, on_bad: OnBad
    ) -> None:
        """`ranks`: this rank, and how many there are."""
        self.shards = shards
        self.samples = samples
        self.rank, self.world_size = ranks
        self.batch_size = batch_size
        self.collate = Collate(samples.ragged, on_bad)

    def batches(self, worker: int, workers: int) -> Iterator[CollatedBatch | DataError]:
        stream, streams = self.rank * workers + worker, self.world_size * workers
        samples = _in_order(self.shards, _evaluated_by(stream, streams, self.shards), 0)
        while stored := dict(islice(samples, self.batch_size)):
            addresses = [Address(0, index) for index in stored]
            yield self.collate(make_samples(self.samples, addresses, stored.__getitem__))


class StreamEvalLoader:
    """One rank's share of every sample: some of the shards, so shares may differ in length."""

    def __init__(
        self, shards: Shards, samples: Samples, settings: LoaderSettings, *, on_bad: OnBad = "error"
    ) -> None:
        """`on_bad`: whether a sample that cannot be read ends the evaluation or is left out of it."""
        self.shards = shards
        self.samples = samples
        self.settings = settings
        self.on_bad = on_bad

    def __len__(self) -> int:
        return sum(self.shards.lengths)

    def locate(self, index: int) -> str:
        """See `EvalData`; shards know no names before they are read."""
        return f"sample {index}"

    def batches(self, rank: int, world_size: int, batch_size: int) -> Iterator[Loaded]:
        """See `EvalData`; raises DataError where a shard is not what it was."""
        data = _EvalStream(self.shards, self.samples, (rank, world_size), batch_size, self.on_bad)
        arguments = {"dataset": data, "batch_size": None, "collate_fn": _unchanged}
        return load_batches(self.settings, lambda _batch: arguments, resumable=False)

    def batch_count(self, rank: int, world_size: int, batch_size: int) -> int:
        """See `EvalData`. Each worker ends its share with a batch of its own, which may be smaller."""
        workers = max(1, self.settings.workers)
        shares = (
            _evaluated_by(rank * workers + worker, world_size * workers, self.shards)
            for worker in range(workers)
        )
        lengths = (sum(self.shards.lengths[shard] for shard in share) for share in shares)
        return sum(-(-length // batch_size) for length in lengths)


def _unchanged(batch: Any) -> Any:
    """What DataLoader makes of a stream's batch; its own default would copy the tensors."""
    return batch
