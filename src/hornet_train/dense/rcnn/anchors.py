"""Anchors: boxes of usual sizes and shapes around every cell of every level of a pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

STRIDES = (4, 8, 16, 32, 64)
RATIOS = (0.5, 1.0, 2.0)
PADDED = 32  # sides of a picture are padded to multiples of this


@dataclass(frozen=True)
class Anchors:
    """Anchors of one size and several aspect ratios a level, as the published detectors have them.

    Attributes:
        strides: pixels of the picture from cell to cell of each level.
        scale: the side of a square anchor, in strides.
        ratios: height over width.
    """

    strides: Sequence[int] = STRIDES
    scale: float = 8.0
    ratios: Sequence[float] = RATIOS
    _kept: dict[tuple[object, ...], list[Tensor]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def base(self, level: int) -> Tensor:
        """The anchors around (0, 0) of a level, float32 (ratios, 4)."""
        ratios = torch.tensor(self.ratios).sqrt()
        side = self.strides[level] * self.scale
        wide, tall = side * (1 / ratios), side * ratios
        return torch.stack([-wide / 2, -tall / 2, wide / 2, tall / 2], 1)

    def of_levels(self, sizes: Sequence[tuple[int, int]], device: torch.device) -> list[Tensor]:
        """Those of every level, (height x width x ratios, 4): cell by cell, row by row.

        Args:
            sizes: (height, width) of each level, in cells.
            device: where they are wanted; those of the last sizes are kept.
        """
        key = (tuple(sizes), device)
        if key not in self._kept:
            if len(self._kept) >= 8:
                self._kept.clear()
            self._kept[key] = [self._of_level(level, size).to(device) for level, size in enumerate(sizes)]
        return self._kept[key]

    def _of_level(self, level: int, size: tuple[int, int]) -> Tensor:
        height, width = size
        stride = self.strides[level]
        y, x = torch.meshgrid(torch.arange(height) * stride, torch.arange(width) * stride, indexing="ij")
        cells = torch.stack([x, y, x, y], 2).reshape(-1, 1, 4)
        return (cells + self.base(level)).reshape(-1, 4)


def trainable(
    anchors: Sequence[Tensor],
    sizes: Sequence[tuple[int, int]],
    strides: Sequence[int],
    picture: tuple[int, int],
    border: int,
) -> Tensor:
    """Which anchors of a picture may be trained, bool, of all levels one after the other.

    Args:
        anchors: of each level.
        sizes: of the levels in cells; those that come from the padding to other pictures are left out.
        strides: of the levels.
        picture: (height, width) without padding.
        border: pixels that an anchor may reach beyond it; below 0: any.
    """
    padded = [-(-side // PADDED) * PADDED for side in picture]
    found = []
    for one, (height, width), stride in zip(anchors, sizes, strides, strict=True):
        rows = torch.arange(height, device=one.device) < -(-padded[0] // stride)
        columns = torch.arange(width, device=one.device) < -(-padded[1] // stride)
        valid = (rows[:, None] & columns[None]).flatten().repeat_interleave(len(one) // (height * width))
        if border >= 0:
            least = one[:, :2].amin(1) >= -border
            valid &= least & (one[:, 2] < picture[1] + border) & (one[:, 3] < picture[0] + border)
        found.append(valid)
    return torch.cat(found)
