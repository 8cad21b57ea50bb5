"""Recursive gated convolution (gnConv), the operator of HorNet (arXiv 2207.14284, section 3).

Layout suffixes: `x_BCHW` is batch, channels, height, width; p has c_0 channels, the gates have
S = c_0 + .. + c_{n-1}, the running product x has c_k at order k.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]

from hornet_train.models.global_filter import GlobalLocalFilter
from hornet_train.models.kernels import dispatch
from hornet_train.models.layers import DepthwiseConv2d, PointwiseConv2d
from hornet_train.models.mixers import Mixer, build_mixer
from hornet_train.models.options import whole_number


def branch_widths(dim: int, order: int) -> tuple[int, ...]:
    """c_k = dim / 2^(order - 1 - k) for k = 0 .. order - 1 (eq. 3.5): ascending, the last is `dim`.

    Raises:
        ValueError: `order` below 1, or a width that cannot be halved order - 1 times.
    """
    dim, order = whole_number("gnConv's width", dim), whole_number("gnConv's order", order)
    step = 2 ** (order - 1)
    if dim < step or dim % step:
        nearest = max(step, (dim + step // 2) // step * step)
        raise ValueError(
            f"gnConv of order {order} halves its width {order - 1} times, so the width must be a multiple of "
            f"{step}, not {dim}; the nearest that works is {nearest}"
        )
    return tuple(dim // 2 ** (order - 1 - k) for k in range(order))


class GnConv(nn.Module, dispatch.HasKernels):
    """gnConv of order n: self-modulation between n branches of growing width, at the cost of a convolution.

    Under float16 autocast the gating runs in float32: a product of n + 1 activations leaves float16's range
    (65,504) long before its factors do. docs/numerics.md has the figures.

    Args:
        dim: C, the width of the last branch; a multiple of 2^(order - 1).
        order: n, the number of gatings, at least 1.
        in_dim: the width in; None for `dim`.
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
        in_dim: int | None = None,
        out_dim: int | None = None,
        mixer: Mixer = "7x7",
        grid: tuple[int, int] = (14, 8),
        scale: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        in_dim = whole_number("in_dim", dim if in_dim is None else in_dim)
        out_dim = whole_number("out_dim", dim if out_dim is None else out_dim)
        if not isinstance(scale, int | float) or not math.isfinite(scale):
            raise ValueError(f"scale is a finite number, not {scale!r}")
        self.widths = branch_widths(dim, order)
        self.total_width = sum(self.widths)  # S; c_0 + S = 2C exactly
        self.scale, self.plain = scale, False
        self.proj_in = PointwiseConv2d(in_dim, 2 * dim, device=device, dtype=dtype)
        self.dwconv = build_mixer(mixer, self.total_width, grid=grid, device=device, dtype=dtype)
        self.proj_out = PointwiseConv2d(dim, out_dim, device=device, dtype=dtype)
        self.pws = nn.ModuleList(
            PointwiseConv2d(narrow, wide, device=device, dtype=dtype)
            for narrow, wide in zip(self.widths, self.widths[1:], strict=False)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Recursive gating, eqs. (3.2)-(3.4). Shape in: (B, C, H, W); out: (B, out_dim, H, W)."""
        # eq. (3.2): p_0 | q_0 .. q_{n-1}, in ascending width
        p_BCHW, q_BSHW = self.proj_in(x_BCHW).split((self.widths[0], self.total_width), dim=1)
        gates_BSHW = self.scaled_mixer(q_BSHW)  # f(q_k) / alpha of eq. (3.3), for every order at once
        if not is_scripting():  # TorchScript compiles nothing under a false `if`
            fast_BCHW = dispatch.gate(self, p_BCHW, gates_BSHW)
            if fast_BCHW is not None:
                return fast_BCHW
        return self.gate(p_BCHW, gates_BSHW)

    def gate(self, p_BCHW: Tensor, gates_BSHW: Tensor) -> Tensor:
        """Eqs. (3.3), (3.4) and the last projection. Shapes: p (B, c_0, H, W), gates (B, S, H, W)."""
        gates = gates_BSHW.split(self.widths, dim=1)
        x_BCHW = p_BCHW * gates[0]  # p_1; g_0 is the identity
        for k, widen in enumerate(self.pws):  # g_k: c_{k-1} -> c_k channels
            x_BCHW = widen(x_BCHW) * gates[k + 1]  # p_{k+1} = f(q_k) g_k(p_k) / alpha
        y_BCHW: Tensor = self.proj_out(x_BCHW)
        return y_BCHW

    def scaled_mixer(self, q_BSHW: Tensor) -> Tensor:
        """f(q) / alpha; HorNet's own mixers take 1 / alpha themselves, which may spare a pass over the map.

        Shape in and out: (B, S, H, W).
        """
        if not is_scripting():  # noqa: SIM102 - TorchScript compiles all of an `and`
            if type(self.dwconv) in (DepthwiseConv2d, GlobalLocalFilter) and not dispatch.has_hooks(
                self.dwconv
            ):
                scaled_BSHW: Tensor = self.dwconv(q_BSHW, self.scale)
                return scaled_BSHW
        gates_BSHW: Tensor = self.dwconv(q_BSHW) * self.scale
        return gates_BSHW

    def extra_repr(self) -> str:
        out = self.proj_out.out_channels
        return f"{self.widths[-1]}, order={len(self.widths)}, out_dim={out}, scale={self.scale:.4g}"
