"""Samples to a batch: the workers' side of a loader's way to the main process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import default_collate

Batch = dict[str, Tensor]


@dataclass
class Slots:
    """One worker's own ring of shared memory, in which its batches go to the main process.

    Fresh shared memory for every batch is zeroed, mapped and given back page by page, which costs as much as
    a quarter of a JPEG's decoding. A slot is written to again `count` batches later: by then the main process
    must have copied what was in it.

    Attributes:
        count: one more than the batches that a worker may have ready.
    """

    count: int
    _rings: dict[str, list[Tensor]] = field(default_factory=dict)
    _turns: dict[str, int] = field(default_factory=dict)

    def take(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The next slot, as uint8 of a shape."""
        turn, ring = self._turns.get(name, 0), self._rings.setdefault(name, [])
        self._turns[name] = (turn + 1) % self.count
        size = torch.Size(shape).numel()
        if turn == len(ring):
            ring.append(torch.empty(0, dtype=torch.uint8))
        if ring[turn].numel() < size:
            ring[turn] = torch.empty(size, dtype=torch.uint8).share_memory_()
        return ring[turn][:size].view(shape)

    def holds(self, value: Tensor) -> bool:
        """Whether a tensor is in one of the slots."""
        start = value.untyped_storage().data_ptr()
        return any(slot.data_ptr() == start for ring in self._rings.values() for slot in ring)


def stacked(items: list[dict[str, Any]], slots: Slots | None = None) -> Batch:
    """default_collate, but that images stay channels-last in memory: (B, 3, H, W) over (B, H, W, 3).

    Args:
        items: samples of the same names and shapes.
        slots: where uint8 images go, if not into memory of their own.
    """
    images: Batch = {}
    for name, value in items[0].items():
        if not (isinstance(value, Tensor) and value.dim() == 3 and value.permute(1, 2, 0).is_contiguous()):
            continue
        pixels = [item[name].permute(1, 2, 0) for item in items]
        shape = (len(items), *pixels[0].shape)
        into = None if slots is None or value.dtype != torch.uint8 else slots.take(name, shape)
        images[name] = torch.stack(pixels, out=into).permute(0, 3, 1, 2)
    rest = [{name: value for name, value in item.items() if name not in images} for item in items]
    others: Batch = default_collate(rest) if rest[0] else {}
    return {name: images[name] if name in images else others[name] for name in items[0]}
