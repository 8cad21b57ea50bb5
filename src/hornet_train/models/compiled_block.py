"""A block compiled once for each kind of map that it sees, instead of a whole network at once.

A network compiled as one graph holds each block's code again: its compilation takes minutes and grows with
the depth. The blocks of a stage differ in their weights alone, which are inputs of the code, and in the
probability of drop path; what that draws is an input too. So there is one compilation for each stage, mode
and precision.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hornet_train.models.kernels import dispatch
from hornet_train.models.kernels.rows import add_scaled
from hornet_train.models.kernels.tensor_kinds import is_real_on_cpu

if TYPE_CHECKING:
    from hornet_train.models.block import Block

# compilations of one piece of code that torch keeps before it leaves the rest uncompiled; torch's 8 are too
# few for four stages in training and evaluation, with and without drop path, and a smaller last batch
_KEPT = 64

Branches = Callable[["Block", Tensor, Tensor | None, Tensor | None], Tensor]


def compile_blocks(blocks: list[nn.Module]) -> int:
    """Have blocks run compiled from now on, in place; names and weights stay as they are.

    HorNet's share one compiled function. Blocks of other models are compiled module by module, of which torch
    shares what is alike; where their attributes differ (drop path's probability), each has code of its own.

    Returns:
        How many they are.
    """
    from hornet_train.models.block import Block  # here, as it imports this module

    _keep_more()
    for block in blocks:
        if isinstance(block, Block):
            block.compiled = True
        else:
            block.compile(dynamic=False)
    return len(blocks)


@cache
def compiled_branches() -> Branches:
    """Both branches of a block as compiled code.

    Each size of map has its own: a size that varies would make torch compile for any size, which is slower.
    """
    found: Branches = torch.compile(_branches, dynamic=False)
    return found


def _keep_more() -> None:
    import torch._dynamo.config as settings

    settings.recompile_limit = max(settings.recompile_limit, _KEPT)
    settings.accumulated_recompile_limit = max(settings.accumulated_recompile_limit, 4 * _KEPT)


def _branches(block: Block, x_BCHW: Tensor, first_B: Tensor | None, second_B: Tensor | None) -> Tensor:
    """`Block.forward`, given by what drop path multiplies each image's branches; None for 1."""
    if not block.plain and is_real_on_cpu(x_BCHW):
        return dispatch.block_on_cpu(block, x_BCHW, (first_B, second_B))
    x_BCHW = add_scaled(x_BCHW, block.gnconv(block.norm1(x_BCHW)), block.gamma1, first_B)
    return add_scaled(x_BCHW, block.mlp(x_BCHW), block.gamma2, second_B)
