"""A batch: tensors by name, and all that is done to a batch whatever its fields are.

A field is one tensor whose first dimension is the sample, or, where the samples' tensors are of unequal
shapes, a list of one tensor a sample (a *ragged* field: boxes, masks, images of several sizes).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

Value = Tensor | list[Tensor]
Batch = dict[str, Value]

_NAME = re.compile(r"(.+)\[(\d+)\]")  # of one sample's tensor of a ragged field


def stacked(batch: Mapping[str, Value], name: str) -> Tensor:
    """A field that is one tensor over all samples. Raises TypeError for a ragged one."""
    value = batch[name]
    if not isinstance(value, Tensor):
        raise TypeError(f"the batch's field {name!r} is a list of tensors, not one tensor")
    return value


def ragged(batch: Mapping[str, Value], name: str) -> list[Tensor]:
    """A field that is a list of one tensor a sample. Raises TypeError for one that is a single tensor."""
    value = batch[name]
    if isinstance(value, Tensor):
        raise TypeError(f"the batch's field {name!r} is one tensor, not a list of tensors")
    return value


def size(batch: Mapping[str, Value]) -> int:
    """How many samples a batch has; 0 for one without fields."""
    return len(next(iter(batch.values()), ()))


def tensors(batch: Mapping[str, Value]) -> Iterator[Tensor]:
    """Every tensor of a batch."""
    for value in batch.values():
        yield from (value,) if isinstance(value, Tensor) else value


def nbytes(batch: Mapping[str, Value]) -> int:
    """Bytes that the values of a batch take."""
    return sum(tensor.nbytes for tensor in tensors(batch))


def only(batch: Mapping[str, Value], names: Collection[str]) -> Batch:
    """Those fields of a batch that it has among `names`."""
    return {name: value for name, value in batch.items() if name in names}


def select(batch: Mapping[str, Value], positions: Sequence[int]) -> Batch:
    """Some samples of a batch, in the order of `positions`: copies of stacked fields, ragged ones as they
    are."""
    chosen = list(positions)
    return {
        name: value[chosen] if isinstance(value, Tensor) else [value[position] for position in chosen]
        for name, value in batch.items()
    }


def to_device(batch: Mapping[str, Value], device: torch.device, *, non_blocking: bool = False) -> Batch:
    """The batch on a device; what is there already is not copied.

    Args:
        non_blocking: whether the copy of pinned memory may still be under way on return.
    """
    return _each(batch, lambda tensor: tensor.to(device, non_blocking=non_blocking))


def record_stream(batch: Mapping[str, Value], stream: torch.cuda.Stream) -> None:
    """Keep the batch's memory from being used again before the work that is now on `stream` is done."""
    for tensor in tensors(batch):
        tensor.record_stream(stream)


def named_tensors(batch: Mapping[str, Value]) -> dict[str, Tensor]:
    """A batch as tensors by name, to be kept in a file; sample i of a ragged field is called `name[i]`."""
    named: dict[str, Tensor] = {}
    for name, value in batch.items():
        if isinstance(value, Tensor):
            named[name] = value
        else:
            named |= {f"{name}[{i}]": tensor for i, tensor in enumerate(value)}
    return named


def from_named_tensors(named: Mapping[str, Tensor]) -> Batch:
    """The batch of which `named_tensors` gave these, in any order."""
    batch: Batch = {}
    parts: dict[str, dict[int, Tensor]] = {}
    for name, tensor in named.items():
        if match := _NAME.fullmatch(name):
            parts.setdefault(match[1], {})[int(match[2])] = tensor
        else:
            batch[name] = tensor
    for name, samples in parts.items():
        batch[name] = [samples[i] for i in range(len(samples))]
    return batch


def _each(batch: Mapping[str, Value], change: Callable[[Tensor], Tensor]) -> Batch:
    return {
        name: change(value) if isinstance(value, Tensor) else [change(tensor) for tensor in value]
        for name, value in batch.items()
    }


class Layout(NamedTuple):
    """Where one tensor lies in a block of several; offset and stride in elements."""

    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Block:
    """Tensors of unequal shapes one after the other in a tensor of one dimension.

    A worker sends a block in one piece, where each tensor of a list would take a file descriptor.
    """

    flat: Tensor
    layouts: list[Layout]

    @classmethod
    def of(cls, samples: Sequence[Tensor], into: Callable[[int, torch.dtype], Tensor]) -> Block:
        """Copy tensors into a block. Dense ones keep the order of their memory, such as channels-last.

        Args:
            samples: of one type.
            into: gives the block's memory, by its number of elements and its type.

        Raises:
            TypeError: they are of several types.
        """
        kinds = {sample.dtype for sample in samples}
        if len(kinds) > 1:
            raise TypeError(f"a field's tensors are of several types: {', '.join(sorted(map(str, kinds)))}")
        layouts, end = [], 0
        for sample in samples:
            stride = torch.empty_like(sample, device="meta").stride()
            layouts.append(Layout(end, tuple(sample.shape), tuple(stride)))
            end += sample.numel()
        flat = into(end, kinds.pop())
        for sample, layout in zip(samples, layouts, strict=True):
            _view(flat, layout).copy_(sample)
        return cls(flat, layouts)


def views(flat: Tensor, layouts: Sequence[Layout]) -> list[Tensor]:
    """The tensors of a block, as views of it."""
    return [_view(flat, layout) for layout in layouts]


def _view(flat: Tensor, layout: Layout) -> Tensor:
    return flat.as_strided(layout.shape, layout.stride, flat.storage_offset() + layout.offset)
