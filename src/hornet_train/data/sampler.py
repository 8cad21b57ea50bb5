"""Which samples each step, rank and micro-batch sees: a pure function of the seed and the position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from hornet_train.data.address import epoch_order

SampleAddress = tuple[int, int]  # (epoch, index)

_cached_order = lru_cache(maxsize=2)(epoch_order)  # the epoch that ends and the one that begins


@dataclass(frozen=True)
class EpochPlan:
    """The order of the training samples and who gets which.

    Step s of an epoch takes the permutation's samples [s*batch_size, (s+1)*batch_size); rank r of W takes
    the r-th of W equal parts of these, in micro-batches of `micro_batch_size`. So 1, 2 and 4 ranks see the
    same images in each step. The last step of an epoch has what is left, in parts that differ by at most
    one image (none with `drop_last`, where the rest is dropped).
    """

    samples: int
    batch_size: int
    micro_batch_size: int
    rank: int
    world_size: int
    seed: int
    drop_last: bool

    @property
    def steps_per_epoch(self) -> int:
        whole, rest = divmod(self.samples, self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    @property
    def dropped(self) -> int:
        """Images of each epoch that no step sees."""
        return self.samples % self.batch_size if self.drop_last else 0

    def step_size(self, step: int) -> int:
        """Images of a step over all ranks."""
        start = step % self.steps_per_epoch * self.batch_size
        return min(self.batch_size, self.samples - start)

    def indices(self, step: int) -> np.ndarray:
        """This rank's samples of a step, int64 of shape (n,); n is 0 for some ranks of a tiny last step."""
        epoch, position = divmod(step, self.steps_per_epoch)
        size = self.step_size(step)
        first, last = (size * r // self.world_size for r in (self.rank, self.rank + 1))
        start = position * self.batch_size
        return _cached_order(self.seed, epoch, self.samples)[start + first : start + last]

    def micro_sizes(self, step: int) -> list[int]:
        """Images of each of this rank's micro-batches; [0] for a rank that has none."""
        count = len(self.indices(step))
        whole, rest = divmod(count, self.micro_batch_size)
        return [self.micro_batch_size] * whole + ([rest] if rest or not whole else [])

    def addresses(self, step: int) -> list[list[SampleAddress]]:
        """The samples of each of this rank's micro-batches.

        A rank without samples still takes part in the gradient's all-reduce: it is handed the first image
        of the step, twice (batch norm refuses one), which `micro_sizes` gives no weight.
        """
        epoch, position = divmod(step, self.steps_per_epoch)
        mine = self.indices(step)
        if not len(mine):
            first = _cached_order(self.seed, epoch, self.samples)[position * self.batch_size]
            return [[(epoch, int(first))] * 2]
        size = self.micro_batch_size
        return [[(epoch, int(i)) for i in mine[k : k + size]] for k in range(0, len(mine), size)]

    def stream(self, first_step: int, total_steps: int) -> Iterator[list[SampleAddress]]:
        """The micro-batches from a step on, across epochs: what came before is neither read nor drawn."""
        for step in range(first_step, total_steps):
            yield from self.addresses(step)


def evaluation_shard(samples: int, rank: int, world_size: int, batch_size: int) -> list[list[SampleAddress]]:
    """This rank's batches of an evaluation: every sample in exactly one rank's, none padded."""
    mine = range(rank, samples, world_size)
    return [[(0, i) for i in mine[k : k + batch_size]] for k in range(0, len(mine), batch_size)]
