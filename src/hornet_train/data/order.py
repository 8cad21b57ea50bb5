"""Which samples each step, rank and micro-batch sees: a pure function of the seed and the position."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import Protocol

import numpy as np

from hornet_train.data.address import epoch_order, shape_rng, spare_rng

SPARES = 8  # samples of a step that may stand in for a damaged one
BLOCK, _WINDOW = 16, 128  # samples of like shapes, and those among which they are looked for

Order = np.ndarray[tuple[int, ...], np.dtype[np.integer]]


@dataclass(frozen=True, eq=False)
class Shapes:
    """The shapes of pictures that are padded to those of their batch.

    Attributes:
        ratios: width over height of each sample, (samples,).
    """

    ratios: np.ndarray


@lru_cache(maxsize=1)  # a run asks for one epoch after the other
def _order(seed: int, epoch: int, samples: int, shapes: Shapes | None) -> Order:
    """`epoch_order` in half the memory: of 14 million samples each rank keeps 57 MB."""
    order = epoch_order(seed, epoch, samples)
    if shapes is not None:
        order = by_shapes(order, shapes.ratios, shape_rng(seed, epoch))
    return order.astype(np.uint32) if samples < 2**32 else order


def by_shapes(order: Order, ratios: np.ndarray, rng: np.random.Generator) -> Order:
    """The same samples in an order in which neighbours have like shapes.

    Within every 128 of the order they are sorted by their ratio, and the blocks of 16 that this makes come in
    a random order. This does not depend on the batch size: a run may go on with another.

    Args:
        order: a permutation.
        ratios: width over height of each sample.
        rng: where the order of the blocks comes from.
    """
    found = []
    for first in range(0, len(order), _WINDOW):
        part = order[first : first + _WINDOW]
        part = part[np.argsort(ratios[part], kind="stable")]
        part = part[::-1] if rng.random() < 0.5 else part  # the last, smaller block is of either end
        whole = len(part) // BLOCK
        blocks = [part[BLOCK * k : BLOCK * (k + 1)] for k in rng.permutation(whole)]
        found += [*blocks, part[BLOCK * whole :]]
    return np.concatenate(found) if found else order


@dataclass(frozen=True, slots=True)
class Address:
    """Where a sample stands.

    Attributes:
        epoch, index: which sample of the data set, and when.
        repeat: which of its copies in this epoch, with repeated augmentation.
        spares: samples that stand in for it, in this order, where it cannot be read: of the same step, and of
            a small one also others.
    """

    epoch: int
    index: int
    repeat: int = 0
    spares: tuple[int, ...] = ()


def spares_of(images: np.ndarray, rng: np.random.Generator) -> list[list[int]]:
    """For each of a step's images, some of its others, in the order in which they stand in for it.

    Args:
        images: int (size,); some may be there several times.

    Returns:
        `SPARES` numbers each, never its own; none where there is no other.
    """
    distinct, which = np.unique(images, return_inverse=True)
    if len(distinct) < 2:
        return [[] for _ in images]
    others = rng.integers(len(distinct) - 1, size=(len(images), SPARES))
    others += others >= which[:, None]
    spares: list[list[int]] = distinct[others].tolist()
    return spares


class Plan(Protocol):
    """How a run's samples make steps."""

    @property
    def samples(self) -> int: ...
    @property
    def micro_batch_size(self) -> int: ...
    @property
    def steps_per_epoch(self) -> int: ...
    @property
    def dropped(self) -> int:
        """Images of each epoch that no step sees."""
        ...

    def step_size(self, step: int, seen: int = 0) -> int:
        """Images of a step over all ranks.

        `seen`: here and below, how many of a step's images were trained on before, with another batch size.
        """
        ...

    def micro_sizes(self, step: int, seen: int = 0) -> list[int]:
        """Images of each of this rank's micro-batches; 0 for a stand-in, which has no weight in the step.

        Every rank has equally many: a sharded model's forward and backward passes are collectives.
        """
        ...

    def smallest_micro_batch(self, step: int, seen: int = 0) -> int:
        """Images of the smallest micro-batch of a step on any rank; stand-ins do not count."""
        ...


def micro_batches(images: int, micro_batch_size: int) -> list[int]:
    """The sizes in which a rank forwards its images of a step: as few as possible, all full but the last.

    Where the last would be a single image and there is a way round that, they are cut evenly instead
    (9 images by 4: 3, 3, 3 and not 4, 4, 1): batch norm cannot be trained on one image of a 1x1 map.

    Returns:
        Sizes from 1 to `micro_batch_size` whose sum is `images`; none for no images.
    """
    full, rest = divmod(images, micro_batch_size)
    count = full + (rest > 0)
    if rest == 1 and images >= 2 * count:
        return [images * (k + 1) // count - images * k // count for k in range(count)]
    return [micro_batch_size] * full + [rest] * (rest > 0)


@dataclass(frozen=True)
class EpochPlan:
    """The order of the training samples and who gets which.

    Step s of an epoch takes the places [s*batch_size, (s+1)*batch_size) of the epoch's permutation; rank r of
    W takes the r-th of W equal parts of these, in micro-batches of `micro_batch_size`. So 1, 2 and 4 ranks
    see the same images in each step. The last step of an epoch has what is left, in parts that differ by at
    most one image (none with `drop_last`, where the rest is dropped). Where that makes a micro-batch more on
    some ranks, the others are handed a stand-in: see `addresses`.

    With `shapes` each step's images have like shapes, see `by_shapes`.

    With `repeats` k > 1 (repeated augmentation, Hoffer et al., arXiv 1901.09335) the first 1/k of the
    permutation stands k times in a row, each time augmented otherwise; an epoch is as long as before.
    """

    samples: int
    batch_size: int
    micro_batch_size: int
    rank: int
    world_size: int
    seed: int
    drop_last: bool
    repeats: int = 1
    shapes: Shapes | None = None

    @property
    def steps_per_epoch(self) -> int:
        whole, rest = divmod(self.samples, self.batch_size)
        return whole + (1 if rest and not self.drop_last else 0)

    @property
    def dropped(self) -> int:
        """Places of each epoch that no step sees."""
        return self.samples % self.batch_size if self.drop_last else 0

    def step_size(self, step: int, seen: int = 0) -> int:
        """Images of a step over all ranks."""
        start = step % self.steps_per_epoch * self.batch_size
        return min(self.batch_size, self.samples - start) - seen

    def _share(self, step: int, seen: int) -> tuple[int, int]:
        """This rank's part [first, last) of a step's images; empty for some ranks of a tiny last step."""
        size = self.step_size(step, seen)
        return size * self.rank // self.world_size, size * (self.rank + 1) // self.world_size

    def micro_sizes(self, step: int, seen: int = 0) -> list[int]:
        """Images of each of this rank's micro-batches; 0 for a stand-in."""
        first, last = self._share(step, seen)
        sizes = micro_batches(last - first, self.micro_batch_size)
        largest_share = -(-self.step_size(step, seen) // self.world_size)
        return sizes + [0] * (len(micro_batches(largest_share, self.micro_batch_size)) - len(sizes))

    def smallest_micro_batch(self, step: int, seen: int = 0) -> int:
        """Images of the smallest micro-batch of a step on any rank; stand-ins do not count."""
        size = self.step_size(step, seen)
        shares = (size // self.world_size, -(-size // self.world_size))  # ranks have the one or the other
        return min(min(micro_batches(share, self.micro_batch_size)) for share in shares if share)

    def addresses(self, step: int, seen: int = 0) -> list[list[Address]]:
        """The samples of each of this rank's micro-batches.

        A rank with fewer micro-batches than others, or none, still takes part in every collective of the
        step: it is handed the first image of the step as a stand-in, which `micro_sizes` gives no weight;
        twice, since batch norm may refuse one image, unless micro-batches are of one image anyway.
        """
        epoch, position = divmod(step, self.steps_per_epoch)
        size = self.step_size(step, seen)
        places = position * self.batch_size + seen + np.arange(size)
        images = _order(self.seed, epoch, self.samples, self.shapes)[places // self.repeats]
        repeats = places % self.repeats
        rng = spare_rng(self.seed, step)
        spares = spares_of(images, rng)
        if size <= SPARES and self.samples > 1:  # all of them may be damaged: others, too
            away = rng.integers(1, self.samples, size=SPARES)
            others = [((image + away) % self.samples).tolist() for image in images.astype(np.int64)]
            spares = [near + far for near, far in zip(spares, others, strict=True)]

        def address(place: int) -> Address:
            return Address(epoch, int(images[place]), int(repeats[place]), tuple(spares[place]))

        mine = map(address, range(*self._share(step, seen)))
        stand_in = [address(0)] * min(2, self.micro_batch_size)
        return [list(islice(mine, size)) if size else stand_in for size in self.micro_sizes(step, seen)]

    def stream(
        self, first_step: int, total_steps: int, *, skip: int = 0, seen: int = 0
    ) -> Iterator[list[Address]]:
        """The micro-batches from a step on, across epochs: what came before is neither read nor drawn.

        Args:
            skip: micro-batches that are left out at the beginning.
            seen: images of the first step that are left out before it is cut into micro-batches.
        """
        for step in range(first_step, total_steps):
            count = len(self.micro_sizes(step, seen))
            if skip < count:
                yield from self.addresses(step, seen)[skip:]
            skip, seen = max(0, skip - count), 0


def evaluation_shard(samples: int, rank: int, world_size: int, batch_size: int) -> Iterator[list[Address]]:
    """This rank's batches of an evaluation: every sample in exactly one rank's, none padded."""
    mine = range(rank, samples, world_size)
    for k in range(0, len(mine), batch_size):
        yield [Address(0, i) for i in mine[k : k + batch_size]]
