"""Models whose weights, gradients and moments are spread over the ranks: torch's FSDP2.

Checkpoints know nothing of it: what leaves the ranks is whole tensors, and what comes in is cut up again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(model: nn.Module, blocks: Iterable[nn.Module], *, gathered_as: torch.dtype | None = None) -> None:
    """Spread a model over all ranks, in place. Its parameters are others afterwards.

    Kernels become contiguous, as FSDP2 wants them; images stay channels-last where they are.

    Args:
        model: the same on every rank, on its device.
        blocks: parts of it whose weights are gathered together, just before they are needed.
        gathered_as: the dtype in which weights travel and are used; None for their own. bf16 halves
            the traffic; the model's layers must take such weights, whatever dtype autocast gives the images.
            The shards keep their dtype, and gradients are added up in fp32.
    """
    model.to(memory_format=torch.contiguous_format)
    # what flows between the blocks keeps its dtype: autocast decides, as it does without sharding
    policy = MixedPrecisionPolicy(
        param_dtype=gathered_as, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for block in blocks:
        fully_shard(block, mp_policy=policy)
    fully_shard(model, mp_policy=policy)


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard` was here."""
    return isinstance(model, FSDPModule)


def full(tensor: Tensor) -> Tensor:
    """The whole of a tensor that may be sharded. Every rank asks, in the same order."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def spread_like(value: Tensor, model: Tensor) -> Tensor:
    """A whole tensor that every rank has, on the device of `model` and sharded as it is."""
    value = value.to(model.device)
    if not isinstance(model, DTensor):
        return value
    return distribute_tensor(value, model.device_mesh, model.placements, src_data_rank=None)


@contextmanager
def whole(model: nn.Module) -> Iterator[None]:
    """Gather all weights for as long as this lasts: each rank may then run the model as often as it likes."""
    parts = [part for part in model.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(part is not model, recurse=False)


def synchronise(model: nn.Module, *, now: bool) -> None:
    """Whether a sharded model's next backward pass adds the ranks' gradients up."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(now)
