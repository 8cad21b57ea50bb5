"""Which objects boxes are trained to find, and which of the boxes are trained.

What is drawn is addressed: a box's place in the draw is a hash of a seed and its number, on any device alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from hornet_train.dense.rcnn.boxes import iou

IGNORED, BACKGROUND = -1, -2
_PAIRS = 1 << 24  # overlaps that are held at once


@dataclass(frozen=True)
class Matcher:
    """Boxes go to the object that they overlap most (Faster R-CNN, Ren et al., NeurIPS 2015).

    Attributes:
        positive: IoU from which on a box is its object's.
        negative: IoU below which it is background; in between it is ignored.
        low_quality: IoU from which on an object also has the boxes that overlap it most, though it be less
            than `positive`; None: it has not. Of several objects with the same best box the last has it.
    """

    positive: float
    negative: float
    low_quality: float | None = None

    def __call__(self, boxes_N4: Tensor, objects_M4: Tensor) -> Tensor:
        """The number of each box's object, 0..M - 1, `IGNORED`, or `BACKGROUND`; int64 (N,)."""
        if not len(objects_M4):
            return torch.full((len(boxes_N4),), BACKGROUND, device=boxes_N4.device)
        rows = max(1, _PAIRS // len(objects_M4))
        best_N, found_N = boxes_N4.new_empty(len(boxes_N4)), boxes_N4.new_empty(0)
        which_N = torch.empty(len(boxes_N4), dtype=torch.int64, device=boxes_N4.device)
        most_M = boxes_N4.new_full((len(objects_M4),), -1.0)
        for start in range(0, len(boxes_N4), rows):
            part = slice(start, start + rows)
            overlaps = iou(boxes_N4[part], objects_M4)
            best_N[part], which_N[part] = overlaps.max(1)
            most_M = torch.maximum(most_M, overlaps.amax(0)) if len(overlaps) else most_M
        found_N = torch.where(best_N >= self.positive, which_N, IGNORED)
        found_N = torch.where(best_N < self.negative, BACKGROUND, found_N)
        if self.low_quality is None:
            return found_N
        numbers_M = torch.arange(len(objects_M4), device=boxes_N4.device)
        for start in range(0, len(boxes_N4), rows):
            part = slice(start, start + rows)
            best = (iou(boxes_N4[part], objects_M4) == most_M) & (most_M >= self.low_quality)
            last = torch.where(best, numbers_M, -1).amax(1)
            found_N[part] = torch.where(last >= 0, last, found_N[part])
        return found_N


class Sampled(NamedTuple):
    """Boxes that are trained, by their numbers: those with an object, in their order, and background."""

    positive: Tensor
    negative: Tensor


@dataclass(frozen=True)
class Sampler:
    """So many boxes of a picture, at most a share of them with an object; background fills up the rest.

    Attributes:
        number: of boxes.
        positive: the share.
    """

    number: int
    positive: float

    def __call__(self, objects_N: Tensor, seed: int) -> Sampled:
        """Draw.

        Args:
            objects_N: what a `Matcher` gave.
            seed: of the draw, from 0 to 2^63 - 1.
        """
        positive = _some(objects_N >= 0, int(self.number * self.positive), seed)
        return Sampled(positive, _some(objects_N == BACKGROUND, self.number - len(positive), seed))


def _some(wanted_N: Tensor, most: int, seed: int) -> Tensor:
    """The numbers of at most so many of the boxes that are wanted, rising."""
    found = wanted_N.nonzero()[:, 0]
    if len(found) <= most:
        return found
    order = _hashes(found, seed).argsort(stable=True)[:most]
    return found[order].sort().values


def _hashes(numbers: Tensor, seed: int) -> Tensor:
    """A number of 63 bits for each, as good as random: splitmix64 (Steele et al., OOPSLA 2014), of a seed."""

    def shifted(x: Tensor, bits: int) -> Tensor:
        return (x >> bits) & ((1 << (64 - bits)) - 1)  # int64 has no logical shift

    x = (numbers + 1) * _signed(0x9E3779B97F4A7C15) + _signed(seed * 0xD1342543DE82EF95)
    x = (x ^ shifted(x, 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ shifted(x, 27)) * _signed(0x94D049BB133111EB)
    return shifted(x ^ shifted(x, 31), 1)


def _signed(value: int) -> int:
    """The int64 of the same 64 bits."""
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def mixed_seed(seed: int, number: int) -> int:
    """A seed of its own for each of several draws, from 0 to 2^63 - 1."""
    return int(_hashes(torch.tensor([number]), seed)[0])
