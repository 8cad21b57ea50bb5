"""Models whose weights, gradients and optimizer moments are sharded over the ranks, with torch's FSDP2.

Checkpoints do not depend on it: tensors are gathered before saving, and sharded again after loading.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(model: nn.Module, blocks: Iterable[nn.Module], *, param_dtype: torch.dtype | None = None) -> None:
    """Shard a model over all ranks, in place. Its parameters are replaced by DTensors.

    Weights become contiguous, which FSDP2 requires; images stay channels-last where they are.

    Args:
        model: the same on every rank, on its device.
        blocks: submodules, each of whose weights are gathered together just before they are needed.
        param_dtype: the dtype in which weights are gathered and used; None for their own. bf16 halves the
            communication; the model's layers must accept such weights, whatever dtype autocast gives the
            images. The shards keep their dtype, and gradients are reduced in fp32.
    """
    model.to(memory_format=torch.contiguous_format)
    # activations keep their dtype: autocast decides, as it does without sharding
    policy = MixedPrecisionPolicy(
        param_dtype=param_dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )
    for block in blocks:
        fully_shard(block, mp_policy=policy)
    fully_shard(model, mp_policy=policy)


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard` was applied to the model."""
    return isinstance(model, FSDPModule)


def full_tensor(tensor: Tensor) -> Tensor:
    """Gather a tensor, if it is sharded. A collective: every rank calls it, in the same order."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(value: Tensor, model: Tensor) -> Tensor:
    """A full tensor that every rank has, moved to the device of `model` and sharded in the same way."""
    value = value.to(model.device)
    if not isinstance(model, DTensor):
        return value
    return distribute_tensor(value, model.device_mesh, model.placements, src_data_rank=None)


@contextmanager
def unsharded(model: nn.Module) -> Iterator[None]:
    """A context in which all weights are gathered, so that ranks may run the model unequally often."""
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


def set_gradient_sync(model: nn.Module, *, now: bool) -> None:
    """Whether a sharded model's next backward pass reduces the gradients over the ranks."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(now)
