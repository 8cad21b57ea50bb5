"""The block of HorNet and a stage of them.

Layout suffixes: `x_BCHW` is batch, channels, height, width; `x_BHWC` has the channels last.
"""

from __future__ import annotations

import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]
from torch.utils.checkpoint import checkpoint

from hornet_train.models.layers import GELU, LayerNorm

MLP_RATIO = 4  # width of the MLP over that of the block


class Block(nn.Module):
    """x += DropPath(gamma1 * gnConv(LN(x)));  x += DropPath(gamma2 * W2 GELU(W1 LN(x))).

    Args:
        dim: C.
        gnconv: the spatial operator, (B, C, H, W) -> (B, C, H, W).
        drop_path: probability of dropping a residual branch of a sample in training.
        layer_scale_init: initial value of gamma1 and gamma2; 0 or less: no layer scale, no such parameters.
        device, dtype: of the parameters.
    """

    def __init__(
        self,
        dim: int,
        gnconv: nn.Module,
        *,
        drop_path: float = 0.0,
        layer_scale_init: float = 1e-6,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.layer_scale_init = layer_scale_init
        gamma = torch.full((dim,), layer_scale_init, device=device, dtype=dtype)
        scaled = layer_scale_init > 0
        self.gamma1: nn.Parameter | None = nn.Parameter(gamma) if scaled else None
        self.gamma2: nn.Parameter | None = nn.Parameter(gamma.clone()) if scaled else None
        self.norm1 = LayerNorm(dim, device=device, dtype=dtype)
        self.gnconv = gnconv
        self.norm2 = nn.LayerNorm(dim, eps=1e-6, device=device, dtype=dtype)
        self.pwconv1 = nn.Linear(dim, MLP_RATIO * dim, device=device, dtype=dtype)
        self.act = GELU()
        self.pwconv2 = nn.Linear(MLP_RATIO * dim, dim, device=device, dtype=dtype)
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Shape in and out: (B, C, H, W)."""
        x_BCHW = self.add_branch(x_BCHW, self.gnconv(self.norm1(x_BCHW)), self.gamma1)
        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        mlp_BHWC = self.pwconv2(self.act(self.pwconv1(self.norm2(x_BHWC))))
        return self.add_branch(x_BCHW, mlp_BHWC.permute(0, 3, 1, 2), self.gamma2)

    def add_branch(self, x_BCHW: Tensor, branch_BCHW: Tensor, gamma_C: Tensor | None) -> Tensor:
        """x + DropPath(gamma * branch), in one pass over the map: a factor for each sample and channel."""
        if gamma_C is None:
            dropped: Tensor = self.drop_path(branch_BCHW)
            return x_BCHW + dropped
        factor_BC11 = gamma_C.view(1, -1, 1, 1)
        if self.training:
            factor_BC11 = self.drop_path(factor_BC11.expand(x_BCHW.shape[0], -1, -1, -1))
        return torch.addcmul(x_BCHW, branch_BCHW, factor_BC11)


class Stage(nn.Sequential):
    """Blocks in sequence.

    Attributes:
        grad_checkpointing: recompute each block in the backward pass instead of keeping its activations.
    """

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__(*blocks)
        self.grad_checkpointing = False

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Shape in and out: (B, C, H, W)."""
        if not is_scripting():  # noqa: SIM102 - as in GnConv
            if self.grad_checkpointing:
                for block in self:
                    x_BCHW = checkpoint(block, x_BCHW, use_reentrant=False)
                return x_BCHW
        for block in self:
            x_BCHW = block(x_BCHW)
        return x_BCHW
