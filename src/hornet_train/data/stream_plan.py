"""Which shards each rank and worker reads, and how many steps that makes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import gcd

from hornet_train.data.address import epoch_order
from hornet_train.errors import DataError


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

    def step_size(self, step: int, seen: int = 0) -> int:  # noqa: ARG002 - all alike
        """Images of a step over all ranks."""
        _check_none_seen(seen)
        return self.batch_size

    def micro_sizes(self, step: int, seen: int = 0) -> list[int]:  # noqa: ARG002 - all alike
        """Images of each of this rank's micro-batches."""
        _check_none_seen(seen)
        return [self.micro_batch_size] * self.micro_per_step

    def smallest_micro_batch(self, step: int, seen: int = 0) -> int:  # noqa: ARG002 - all alike
        """Images of the smallest micro-batch of a step on any rank."""
        return self.micro_batch_size

    def shards(self, epoch: int, worker: int) -> list[int]:
        """What this rank's worker reads in an epoch, in order."""
        dealt = epoch_order(self.seed, epoch, len(self.lengths))
        return [int(shard) for shard in dealt[self.rank * self.workers + worker :: self.streams]]


def _check_none_seen(seen: int) -> None:
    """Raises ValueError: shards are read in whole steps."""
    if seen:
        raise ValueError(f"a stream cannot begin {seen} images into a step")
