"""Recursive gated convolution (gnConv), the operator of HorNet (arXiv 2207.14284, section 3).

Layout suffixes: `x_BCHW` is batch, channels, height, width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]

from hornet_train.models.global_filter import GlobalLocalFilter
from hornet_train.models.kernels import gating, projection
from hornet_train.models.layers import (
    DepthwiseConv2d,
    HasPlainPath,
    PointwiseConv2d,
    affine,
    lower_precision,
    served_by_rows,
)
from hornet_train.models.mixers import Mixer, build_mixer
from hornet_train.models.options import whole


def branch_widths(dim: int, order: int) -> tuple[int, ...]:
    """c_k = dim / 2^(order - 1 - k) for k = 0 .. order - 1 (eq. 3.5): ascending, the last is `dim`.

    Raises:
        ValueError: `order` below 1, or a width that cannot be halved order - 1 times.
    """
    dim, order = whole("gnConv's width", dim), whole("gnConv's order", order)
    step = 2 ** (order - 1)
    if dim < step or dim % step:
        nearest = max(step, (dim + step // 2) // step * step)
        raise ValueError(
            f"gnConv of order {order} halves its width {order - 1} times, so the width must be a multiple of "
            f"{step}, not {dim}; the nearest that works is {nearest}"
        )
    return tuple(dim // 2 ** (order - 1 - k) for k in range(order))


class GnConv(nn.Module, HasPlainPath):
    """gnConv of order n: self-modulation between n branches of growing width, at the cost of a convolution.

    Under float16 autocast the gating runs in float32: a product of n + 1 activations leaves float16's range
    (65,504) long before its factors do. docs/numerics.md has the figures.

    Args:
        dim: C, the width in; a multiple of 2^(order - 1).
        order: n, the number of gatings, at least 1.
        out_dim: the width out; None for `dim`.
        mixer: f, shared by all orders: one operator over the S = c_0 + .. + c_{n-1} channels of q. "7x7" or
            any other odd kernel (also as a number), "gf", "pool" (3x3 mean), or a function of S that gives a
            module, which must keep channels, height and width.
        grid: (h, w) of the global filter; read for mixer="gf" only.
        scale: 1 / alpha of eq. (3.3). It multiplies f, that is every order, so the product gets scale^n.
        device, dtype: of the parameters.

    Raises:
        ValueError: an impossible width or order, an unknown mixer, an even kernel, a grid below 1 x 1.
    """

    def __init__(
        self,
        dim: int,
        *,
        order: int = 5,
        out_dim: int | None = None,
        mixer: Mixer = "7x7",
        grid: tuple[int, int] = (14, 8),
        scale: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        out_dim = whole("out_dim", dim if out_dim is None else out_dim)
        if not isinstance(scale, int | float) or not math.isfinite(scale):
            raise ValueError(f"scale is a finite number, not {scale!r}")
        self.widths = branch_widths(dim, order)
        self.total_width = sum(self.widths)  # S; c_0 + S = 2C exactly
        self.scale, self.plain = scale, False
        self.proj_in = PointwiseConv2d(dim, 2 * dim, device=device, dtype=dtype)
        self.dwconv = build_mixer(mixer, self.total_width, grid=grid, device=device, dtype=dtype)
        self.proj_out = PointwiseConv2d(dim, out_dim, device=device, dtype=dtype)
        self.pws = nn.ModuleList(
            PointwiseConv2d(narrow, wide, device=device, dtype=dtype)
            for narrow, wide in zip(self.widths, self.widths[1:], strict=False)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Recursive gating, eqs. (3.2)-(3.4). Shape in: (B, C, H, W); out: (B, out_dim, H, W)."""
        # eq. (3.2): p_0 first, then q_0 .. q_{n-1} in ascending width
        p, q = self.proj_in(x_BCHW).split((self.widths[0], self.total_width), dim=1)
        gates = self.scaled_mixer(q)
        # TorchScript compiles both sides of an `and`, but nothing under a false `if`
        if not is_scripting():
            if self._gates_by_rows(q) and gating.fits(p, gates, self.total_width):
                return self._gate_by_rows(p, gates)
            if self._autocast_to_half(p):
                with torch.autocast(p.device.type, enabled=False):
                    return self.gate(p.float(), gates.float())
        return self.gate(p, gates)

    def scaled_mixer(self, q: Tensor) -> Tensor:
        """f(q_k) / alpha of eq. (3.3), for every order at once. Shape in and out: (B, S, H, W)."""
        if not is_scripting():  # noqa: SIM102
            if isinstance(self.dwconv, DepthwiseConv2d):
                scaled: Tensor = self.dwconv(q, self.scale)
                return scaled
        out: Tensor = self.dwconv(q) * self.scale
        return out

    def gate(self, p: Tensor, gates: Tensor) -> Tensor:
        """Everything after f: p_0 (B, c_0, H, W) and all gates (B, S, H, W) to (B, out_dim, H, W)."""
        branches = gates.split(self.widths, dim=1)
        x = p * branches[0]  # eq. (3.3) with g_0 = identity
        for k, widen in enumerate(self.pws):  # g_k of eq. (3.4): c_{k-1} -> c_k
            x = widen(x) * branches[k + 1]
        out: Tensor = self.proj_out(x)
        return out

    @torch.jit.unused
    def runs_by_rows(self, x_BCHW: Tensor, norm: nn.Module) -> bool:
        """Whether `add_by_rows` can do what a norm and this module do: on a CPU, layers as they were made."""
        watched = self._forward_hooks or self._forward_pre_hooks
        watched = watched or self._backward_hooks or self._backward_pre_hooks
        return (
            type(self) is GnConv
            and not watched
            and type(self.dwconv) in (DepthwiseConv2d, GlobalLocalFilter)  # whose gates are known to fit
            and served_by_rows(x_BCHW, norm, self.proj_in)
            and self._gates_by_rows(x_BCHW)
        )

    @torch.jit.unused
    def add_by_rows(
        self, x_BCHW: Tensor, norm: nn.Module, gamma_C: Tensor | None, factor_B: Tensor | None
    ) -> Tensor:
        """x + factor * gamma * gnConv(norm(x)), in three operators. Shape in and out: (B, C, H, W)."""
        projection_in = self.proj_in.weight, self.proj_in.bias
        pq = projection.project(x_BCHW, *affine(norm, x_BCHW), *projection_in, lower_precision(x_BCHW))
        p, q = pq.split((self.widths[0], self.total_width), dim=1)
        return self._gate_by_rows(p, self.scaled_mixer(q), x_BCHW, factor_B, gamma_C)

    @torch.jit.unused
    def _gates_by_rows(self, q: Tensor) -> bool:
        served = gating.serves(self.widths[0]) and served_by_rows(q, *self.pws, self.proj_out)
        return served and not self.plain

    @torch.jit.unused
    def _gate_by_rows(
        self,
        p: Tensor,
        gates: Tensor,
        residual_BCHW: Tensor | None = None,
        factor_B: Tensor | None = None,
        gamma_C: Tensor | None = None,
    ) -> Tensor:
        """`gate` as one operator, and what a block adds to it."""
        parameters = [one for layer in (*self.pws, self.proj_out) for one in (layer.weight, layer.bias)]
        lower = lower_precision(p)
        out: Tensor = gating.gating(p, gates, residual_BCHW, factor_B, gamma_C, parameters, lower)
        return out

    def _autocast_to_half(self, p: Tensor) -> bool:
        """Whether autocast made p float16. A proxy of symbolic tracing has no dtype yet: no."""
        return (
            isinstance(p, Tensor) and p.dtype == torch.float16 and self.proj_out.weight.dtype != torch.float16
        )

    def extra_repr(self) -> str:
        out = self.proj_out.out_channels
        return f"{self.widths[-1]}, order={len(self.widths)}, out_dim={out}, scale={self.scale:.4g}"
