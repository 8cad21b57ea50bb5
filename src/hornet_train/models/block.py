"""The block of HorNet and a stage of them.

Layout suffixes: `x_BCHW` is batch, channels, height, width; `x_BHWC` has the channels last.
"""

from __future__ import annotations

import torch
from timm.layers import DropPath
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]
from torch.utils.checkpoint import checkpoint

from hornet_train.models.kernels import EPS, dispatch
from hornet_train.models.layers import LayerNorm
from hornet_train.models.spectrum import at_least_float32

MLP_RATIO = 4  # width of the MLP over that of the block


class Block(nn.Module, dispatch.HasKernels):
    """x += DropPath(gamma1 * gnConv(LN(x)));  x += DropPath(gamma2 * W2 GELU(W1 LN(x))).

    On a CPU each branch runs as few operators over rows of pixels (`hornet_train.models.kernels`); layers
    that have hooks, were replaced or are traced run one by one.

    Args:
        dim: C.
        gnconv: the spatial operator, (B, C, H, W) -> (B, C, H, W).
        drop_path: probability of dropping a residual branch of a sample in training.
        layer_scale_init: initial value of gamma1 and gamma2; 0 or less: no layer scale, no such parameters.
        device, dtype: of the parameters.

    Attributes:
        compiled: whether it runs by the code that `compile_blocks` has torch compile.
    """

    compiled = False  # of the class, for blocks that were pickled whole before there was such a choice

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
        self.plain = False
        self.layer_scale_init = layer_scale_init
        gamma = torch.full((dim,), layer_scale_init, device=device, dtype=dtype)
        scaled = layer_scale_init > 0
        self.gamma1: nn.Parameter | None = nn.Parameter(gamma) if scaled else None
        self.gamma2: nn.Parameter | None = nn.Parameter(gamma.clone()) if scaled else None
        self.norm1 = LayerNorm(dim, device=device, dtype=dtype)
        self.gnconv = gnconv
        self.norm2 = nn.LayerNorm(dim, eps=EPS, device=device, dtype=dtype)
        self.pwconv1 = nn.Linear(dim, MLP_RATIO * dim, device=device, dtype=dtype)
        self.act = nn.GELU()
        self.pwconv2 = nn.Linear(MLP_RATIO * dim, dim, device=device, dtype=dtype)
        self.drop_path = DropPath(drop_path) if drop_path > 0.0 else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Shape in and out: (B, C, H, W)."""
        if not is_scripting():  # TorchScript compiles nothing under a false `if`
            fast_BCHW = dispatch.block(self, x_BCHW)
            if fast_BCHW is not None:
                return fast_BCHW
        x_BCHW = self.add(x_BCHW, self.gnconv(self.norm1(x_BCHW)), self.gamma1)
        return self.add(x_BCHW, self.mlp(x_BCHW), self.gamma2)

    def mlp(self, x_BCHW: Tensor) -> Tensor:
        """W2 GELU(W1 LN(x)) of each pixel. Shape in and out: (B, C, H, W)."""
        x_BHWC = x_BCHW.permute(0, 2, 3, 1)
        y_BHWC: Tensor = self.pwconv2(self.act(self.pwconv1(self.norm2(x_BHWC))))
        return y_BHWC.permute(0, 3, 1, 2)

    def add(self, x_BCHW: Tensor, branch_BCHW: Tensor, gamma_C: Tensor | None) -> Tensor:
        """x + DropPath(gamma * branch), in one pass over the map: a factor for each sample and channel."""
        if gamma_C is None:
            dropped_BCHW: Tensor = self.drop_path(branch_BCHW)
            return x_BCHW + dropped_BCHW
        factor_BC11 = gamma_C.view(1, -1, 1, 1)
        if self.training:
            factor_BC11 = self.drop_path(factor_BC11.expand(x_BCHW.shape[0], -1, -1, -1))
        return torch.addcmul(x_BCHW, branch_BCHW, factor_BC11)

    @torch.jit.unused
    def drop_factors(self, x_BCHW: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """`drop_factor` of either branch."""
        return self.drop_factor(x_BCHW), self.drop_factor(x_BCHW)

    @torch.jit.unused
    def drop_factor(self, x_BCHW: Tensor) -> Tensor | None:
        """The number by which drop path multiplies each image's branch, (B,); None where that is 1."""
        if not self.training or isinstance(self.drop_path, nn.Identity):
            return None
        factor_B111: Tensor = self.drop_path(
            torch.ones(x_BCHW.shape[0], 1, 1, 1, device=x_BCHW.device, dtype=at_least_float32(x_BCHW))
        )
        return factor_B111.flatten()


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
        if not is_scripting():  # noqa: SIM102 - TorchScript compiles all of an `and`
            if self.grad_checkpointing:
                for block in self:
                    x_BCHW = checkpoint(block, x_BCHW, use_reentrant=False)
                return x_BCHW
        for block in self:
            x_BCHW = block(x_BCHW)
        return x_BCHW
