"""Streaming: shards read from their beginning to their end, for data that are too far away for random access.

An epoch permutes the shards and deals them out whole to the streams, one for each worker of each rank. A
stream reads its shards one after the other and shuffles within blocks of samples that it holds in memory. All
of that is a function of (seed, epoch, stream), so a run goes on anywhere without a state of its own; but
other than with random access, which images meet in a step depends on the numbers of ranks and workers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, islice
from math import gcd
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from hornet_train.data.address import block_order, epoch_order, sample_rng, spare_rng
from hornet_train.data.collate import stacked
from hornet_train.data.loader import Loaded, OnBad, Reading
from hornet_train.data.order import spares_of
from hornet_train.data.sources.shards import Encoded, Shards
from hornet_train.data.worker import BadSample, grouped
from hornet_train.errors import DataError, SampleError
from hornet_train.images.decode import decode
from hornet_train.tasks.classification.samples import Sample
from hornet_train.tasks.classification.transforms import EvalTransform, TrainTransform


@dataclass(frozen=True)
class StreamPlan:
    """Which shards each rank and worker reads and how many steps that makes; the counterpart of `EpochPlan`.

    Each epoch has the same number of steps, as many as the shortest possible share of shards allows; what is
    left of the longer ones is dropped. Every rank's micro-batch i of an epoch comes from its worker i mod
    `workers`.

    Raises:
        DataError: the shards cannot be dealt out evenly, or hold too little for a step.
    """

    lengths: tuple[int, ...]
    batch_size: int
    micro_batch_size: int
    rank: int
    world_size: int
    workers: int  # of each rank, at least 1
    seed: int

    def __post_init__(self) -> None:
        shards, streams = len(self.lengths), self.streams
        if shards % streams:
            fitting = [w for w in range(1, shards + 1) if shards % (w * self.world_size) == 0]
            near = sorted(fitting, key=lambda w: abs(w - self.workers))[:2]
            advice = (
                f"data.workers={' or data.workers='.join(map(str, sorted(near)))} would do"
                if near
                else f"{self.world_size} processes need a multiple of {self.world_size} shards"
            )
            raise DataError(
                f"{shards} shards cannot be shared out evenly to {self.world_size} processes x "
                f"{self.workers} workers: {advice}; or hornet-data pack "
                f"--shards={-(-shards // streams) * streams}, or data.streaming=false"
            )
        if not self.steps_per_epoch:
            raise DataError(
                f"{self.samples:,} samples in {shards} shards give no whole step of batch_size="
                f"{self.batch_size} to {self.world_size} processes x {self.workers} workers: fewer workers, "
                "or data.streaming=false"
            )

    @property
    def streams(self) -> int:
        return self.world_size * self.workers

    @property
    def dealt(self) -> dict[str, int]:
        """On what the order of the images depends, beside the seed."""
        return {
            "processes": self.world_size,
            "workers": self.workers,
            "images_at_once": self.micro_batch_size,
        }

    @property
    def samples(self) -> int:
        return sum(self.lengths)

    @property
    def micro_per_step(self) -> int:
        """Micro-batches of a step on each rank."""
        return self.batch_size // (self.world_size * self.micro_batch_size)

    @cached_property
    def steps_per_epoch(self) -> int:
        shortest = sum(sorted(self.lengths)[: len(self.lengths) // self.streams])
        most = shortest // self.micro_batch_size * self.workers // self.micro_per_step
        turn = self.workers // gcd(self.workers, self.micro_per_step)  # steps until worker 0 is first again
        return most // turn * turn

    @property
    def dropped(self) -> int:
        """Images of each epoch that no step sees."""
        return self.samples - self.steps_per_epoch * self.batch_size

    def step_size(self, step: int) -> int:  # noqa: ARG002 - all alike
        """Images of a step over all ranks."""
        return self.batch_size

    def micro_sizes(self, step: int) -> list[int]:  # noqa: ARG002 - all alike
        """Images of each of this rank's micro-batches."""
        return [self.micro_batch_size] * self.micro_per_step

    def smallest_micro_batch(self, step: int) -> int:  # noqa: ARG002 - all alike
        """Images of the smallest micro-batch of a step on any rank."""
        return self.micro_batch_size

    def shards(self, epoch: int, worker: int) -> list[int]:
        """What this rank's worker reads in an epoch, in order."""
        dealt = epoch_order(self.seed, epoch, len(self.lengths))
        return [int(shard) for shard in dealt[self.rank * self.workers + worker :: self.streams]]


class _Stream(IterableDataset[Loaded | DataError], ABC):
    """Hands errors over as values: raised in a worker, one would arrive wrapped in a traceback."""

    def __iter__(self) -> Iterator[Loaded | DataError]:
        info = get_worker_info()
        try:
            yield from self.loaded(info.id if info else 0, info.num_workers if info else 1)
        except DataError as error:
            yield error

    @abstractmethod
    def loaded(self, worker: int, workers: int) -> Iterator[Loaded]:
        """What one worker gives; raises DataError."""


class _TrainStream(_Stream):
    """This rank's micro-batches from one on, each in the worker whose turn it is."""

    def __init__(
        self,
        shards: Shards,
        transform: TrainTransform,
        plan: StreamPlan,
        block: int,
        micro_batches: range,
    ) -> None:
        self.shards = shards
        self.transform = transform
        self.plan = plan
        self.block = block
        self.micro_batches = micro_batches  # of the run

    def loaded(self, worker: int, workers: int) -> Iterator[Loaded]:
        plan = self.plan
        per_epoch = plan.steps_per_epoch * plan.micro_per_step
        present, lanes = -1, dict[int, Iterator[tuple[int, Encoded]]]()
        for micro_batch in self.micro_batches[worker::workers]:
            epoch, position = divmod(micro_batch, per_epoch)
            turn, lane = divmod(position, plan.workers)  # not `worker`: a resume begins anywhere
            if epoch != present:
                present, lanes = epoch, {}
            if lane not in lanes:
                lanes[lane] = self._shuffled(epoch, lane, turn * plan.micro_batch_size)
            items = list(islice(lanes[lane], plan.micro_batch_size))
            step, micro = divmod(micro_batch, plan.micro_per_step)
            yield self._loaded(items, epoch, step, micro)

    def _shuffled(self, epoch: int, lane: int, start: int) -> Iterator[tuple[int, Encoded]]:
        """(index in the data set, sample) of a worker's epoch from its `start`-th on."""
        shards = self.plan.shards(epoch, lane)
        stream = self.plan.rank * self.plan.workers + lane
        block, skipped = divmod(start, self.block)
        samples = _in_order(self.shards, shards, block * self.block)
        while items := list(islice(samples, self.block)):
            order = block_order(self.plan.seed, epoch, stream, block, len(items))
            for at in order[skipped:].tolist():
                yield items[at]
            block, skipped = block + 1, 0

    def _loaded(self, items: list[tuple[int, Encoded]], epoch: int, step: int, micro: int) -> Loaded:
        """A batch; others of its samples, chosen by address, stand in for what cannot be decoded.

        Raises:
            SampleError: none of these can.
        """
        plan = self.plan
        bad: list[BadSample] = []
        spares = spares_of(np.arange(len(items)), spare_rng(plan.seed, step, plan.rank, micro))

        def decoded() -> Iterator[tuple[int, int, int, Tensor]]:
            """Index in the data set of the sample, of the image for it, label, image."""
            for place, ((index, _), others) in enumerate(zip(items, spares, strict=True)):
                first: SampleError | None = None
                for candidate in (place, *others):
                    image, encoded = items[candidate]
                    try:
                        yield index, image, encoded.label, decode(encoded.data, encoded.where)
                        break
                    except SampleError as error:
                        first = first or error
                        bad.append(BadSample(image, error.where, error.reason))
                else:
                    assert first is not None
                    raise first

        samples: list[Sample] = []
        for group in grouped(decoded(), lambda one: one[3].nbytes):
            for index, found, label, whole in group:
                pixels, erase = self.transform(whole, sample_rng(plan.seed, epoch, index), epoch)
                samples.append({"image": pixels, "label": label, "erase": erase, "index": found})
        return Loaded(stacked(samples), bad)


def _bytes(decoded: tuple[int, int, Tensor]) -> int:
    return decoded[2].nbytes


def _in_order(shards: Shards, chosen: list[int], start: int) -> Iterator[tuple[int, Encoded]]:
    """(index in the data set, sample) of the chosen shards one after the other, from the `start`-th on.

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
        for encoded in islice(shards.read(shard, start), length - start):
            yield origins[shard] + at, encoded
            at, last = at + 1, f" (with {encoded.where})"
        if at != length:
            error = DataError(
                f"shard {shard + 1} of {len(origins) - 1} ends after {at:,} of {length:,} samples{last}: it "
                "has been written anew since this run started; start it again"
            )
            error.of_one_rank = True
            raise error
        start = 0


class StreamTrainLoader:
    """One rank's micro-batches of a stream plan."""

    def __init__(
        self, shards: Shards, transform: TrainTransform, plan: StreamPlan, reading: Reading, *, block: int
    ) -> None:
        """`block`: samples that each worker holds, encoded, and shuffles; at least 1."""
        self.shards = shards
        self.transform = transform
        self.plan = plan
        self.reading = reading
        self.block = block

    def batches(self, first_step: int, total_steps: int) -> Iterator[Loaded]:
        """See `TrainData`. Of what came before, at most a block is read again, and nothing decoded.

        Raises DataError where a shard is not what it was.
        """
        each = self.plan.micro_per_step
        micro_batches = range(first_step * each, total_steps * each)

        def what(batch: int) -> Mapping[str, Any]:
            rest = micro_batches[batch:]
            data = _TrainStream(self.shards, self.transform, self.plan, self.block, rest)
            return {"dataset": data, "batch_size": None, "collate_fn": _as_it_is}

        return self.reading.batches(what)


def _evaluated_by(stream: int, streams: int, shards: Shards) -> list[int]:
    """The shards that one of the streams of an evaluation reads."""
    return list(range(len(shards.lengths)))[stream::streams]


class _EvalStream(_Stream):
    def __init__(
        self, shards: Shards, transform: EvalTransform, ranks: tuple[int, int], batch_size: int, on_bad: OnBad
    ) -> None:
        self.shards = shards
        self.transform = transform
        self.rank, self.world_size = ranks
        self.batch_size = batch_size
        self.on_bad = on_bad

    def loaded(self, worker: int, workers: int) -> Iterator[Loaded]:
        stream, streams = self.rank * workers + worker, self.world_size * workers
        samples = _in_order(self.shards, _evaluated_by(stream, streams, self.shards), 0)
        while items := list(islice(samples, self.batch_size)):
            bad: list[BadSample] = []
            good: list[Sample] = [
                {"image": self.transform(image), "label": label}
                for group in grouped(self._decoded(items, bad), _bytes)
                for _, label, image in group
            ]
            yield Loaded(stacked(good) if good else {}, bad)

    def _decoded(
        self, items: list[tuple[int, Encoded]], bad: list[BadSample]
    ) -> Iterator[tuple[int, int, Tensor]]:
        """Index in the data set, label, image; what may be left out goes to `bad`."""
        for index, encoded in items:
            try:
                image = decode(encoded.data, encoded.where)
            except SampleError as error:
                if self.on_bad == "error":
                    raise
                bad.append(BadSample(index, error.where, error.reason))
            else:
                yield index, encoded.label, image


class StreamEvalLoader:
    """One rank's share of every sample: whole shards, so shares may differ in length."""

    def __init__(
        self, shards: Shards, transform: EvalTransform, reading: Reading, *, on_bad: OnBad = "error"
    ) -> None:
        self.shards = shards
        self.transform = transform
        self.reading = reading
        self.on_bad = on_bad

    def __len__(self) -> int:
        return sum(self.shards.lengths)

    def batches(self, rank: int, world_size: int, batch_size: int) -> Iterator[Loaded]:
        """See `EvalData`; raises DataError where a shard is not what it was."""
        data = _EvalStream(self.shards, self.transform, (rank, world_size), batch_size, self.on_bad)
        how = {"dataset": data, "batch_size": None, "collate_fn": _as_it_is}
        return self.reading.batches(lambda _batch: how, resumable=False)

    def batch_count(self, rank: int, world_size: int, batch_size: int) -> int:
        """See `EvalData`. Each worker ends its share with a batch of its own, which may be smaller."""
        workers = max(1, self.reading.workers)
        shares = (
            _evaluated_by(rank * workers + worker, world_size * workers, self.shards)
            for worker in range(workers)
        )
        lengths = (sum(self.shards.lengths[shard] for shard in share) for share in shares)
        return sum(-(-length // batch_size) for length in lengths)


def _as_it_is(loaded: Any) -> Any:
    return loaded
