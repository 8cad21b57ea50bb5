"""Collate samples to a batch in a worker, in memory that the main process shares."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import default_collate, get_worker_info

from hornet_train.data.batch import Batch, Block, Layout, views
from hornet_train.data.sending import Sent, received, sent, shared, unshared_bytes
from hornet_train.data.worker import BadSample, Item
from hornet_train.errors import SampleError

OnBad = Literal["error", "skip"]


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

    def take(self, name: str, shape: tuple[int, ...], dtype: torch.dtype = torch.uint8) -> Tensor:
        """The next slot, as a tensor of a shape and type; other memory where no more can be shared."""
        turn, ring = self._turns.get(name, 0), self._rings.setdefault(name, [])
        self._turns[name] = (turn + 1) % self.count
        size = torch.Size(shape).numel() * dtype.itemsize
        if turn == len(ring):
            ring.append(torch.empty(0, dtype=torch.uint8))
        if ring[turn].numel() < size:
            memory = shared(torch.empty(size, dtype=torch.uint8))
            if memory is None:
                return torch.empty(shape, dtype=dtype)
            ring[turn] = memory
        return ring[turn][:size].view(dtype).view(shape)

    def holds(self, value: Tensor) -> bool:
        """Whether a tensor is in one of the slots."""
        start = value.untyped_storage().data_ptr()
        return any(slot.data_ptr() == start for ring in self._rings.values() for slot in ring)


@dataclass(frozen=True)
class CollatedBatch:
    """A batch on its way from a worker to the device.

    Attributes:
        tensors: one tensor a field, as it is sent; a ragged field's are one block.
        layouts: of each ragged field, where the samples' tensors lie in the block.
        bad: see `Loaded`.
        in_slots: names of the fields whose memory the worker will write to again.
        unshared: bytes for which there was too little shared memory.
    """

    tensors: Mapping[str, Sent]
    layouts: dict[str, list[Layout]]
    bad: list[BadSample]
    in_slots: frozenset[str] = frozenset()
    unshared: int = 0

    def pin_memory(self) -> CollatedBatch:
        """As DataLoader asks of types that it does not know; a copy, out of the slots."""
        tensors = {name: value.pin_memory() for name, value in received(self.tensors).items()}
        return CollatedBatch(tensors, self.layouts, self.bad, unshared=self.unshared)

    def batch(self) -> Batch:
        """The fields as a task gets them."""
        return {
            name: views(value, self.layouts[name]) if name in self.layouts else value
            for name, value in received(self.tensors).items()
        }


@dataclass(frozen=True)
class Collate:
    """Samples to a batch. The first that could not be read is raised in the main process, or left out.

    Attributes:
        ragged: names of the fields whose tensors are of unequal shapes.
        on_bad: whether a sample that could not be read and has no spare is an error or is left out.
        slots: of a worker that may use them; None for memory of their own.
    """

    ragged: Collection[str]
    on_bad: OnBad
    slots: Slots | None = None

    def __call__(self, items: Sequence[Item]) -> CollatedBatch | SampleError:
        """The batch, or the error, which is a value as `SampleReader` has it."""
        bad = [one for _, some in items for one in some]
        good = []
        for item, _ in items:
            if not isinstance(item, SampleError):
                good.append(item)
            elif self.on_bad == "error":
                return item
        if not good:
            return CollatedBatch({}, {}, bad)
        slots = None if get_worker_info() is None else self.slots
        tensors, layouts = collated(good, self.ragged, slots)
        in_slots = frozenset(name for name in tensors if slots is not None and slots.holds(tensors[name]))
        if get_worker_info() is None:
            return CollatedBatch(tensors, layouts, bad)
        ready = {name: value if name in in_slots else sent(value) for name, value in tensors.items()}
        unshared = sum(map(unshared_bytes, ready.values()))
        return CollatedBatch(ready, layouts, bad, in_slots, unshared)


def collated(
    items: Sequence[dict[str, Any]], ragged: Collection[str] = (), slots: Slots | None = None
) -> tuple[dict[str, Tensor], dict[str, list[Layout]]]:
    """One tensor a field, and the layouts of the ragged ones.

    As default_collate, but that images stay channels-last in memory: (B, 3, H, W) over (B, H, W, 3).

    Args:
        items: samples of the same names, and but for `ragged` of the same shapes.
        ragged: fields that become blocks.
        slots: where uint8 images and blocks go, if not into memory of their own.
    """
    tensors: dict[str, Tensor] = {}
    layouts: dict[str, list[Layout]] = {}
    for name, value in items[0].items():
        if name in ragged:
            block = Block.of([item[name] for item in items], _memory(name, slots))
            tensors[name], layouts[name] = block.flat, block.layouts
        elif isinstance(value, Tensor) and value.dim() == 3 and value.permute(1, 2, 0).is_contiguous():
            pixels = [item[name].permute(1, 2, 0) for item in items]
            shape = (len(items), *pixels[0].shape)
            into = None if slots is None or value.dtype != torch.uint8 else slots.take(name, shape)
            tensors[name] = torch.stack(pixels, out=into).permute(0, 3, 1, 2)
    rest = [{name: value for name, value in item.items() if name not in tensors} for item in items]
    others: dict[str, Tensor] = default_collate(rest) if rest[0] else {}
    return {name: tensors[name] if name in tensors else others[name] for name in items[0]}, layouts


def _memory(name: str, slots: Slots | None) -> Any:
    """What gives a block its memory."""
    if slots is None:
        return lambda elements, dtype: torch.empty(elements, dtype=dtype)
    return lambda elements, dtype: slots.take(name, (elements,), dtype)
