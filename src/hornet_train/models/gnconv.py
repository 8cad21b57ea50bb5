"""Recursive gated convolution (gnConv), the operator of HorNet (arXiv 2207.14284, section 3).

Layout suffixes: `x_BCHW` is batch, channels, height, width.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from hornet_train.models.global_filter import GlobalLocalFilter
from hornet_train.models.layers import depthwise

Mixer = str | int | Callable[[int], nn.Module]
"""The depthwise operator f: "7x7", an odd kernel size, "gf", or a function from a width to a module."""


def branch_widths(dim: int, order: int) -> tuple[int, ...]:
    """c_k = dim / 2^(order - 1 - k) for k = 0 .. order - 1 (eq. 3.5): ascending, the last is `dim`.

    Raises:
        ValueError: `order` below 1, or a width that cannot be halved order - 1 times.
    """
    if order < 1:
        raise ValueError(f"gnConv needs an order of at least 1, not {order}")
    step = 2 ** (order - 1)
    if dim < step or dim % step:
        nearest = max(step, (dim + step // 2) // step * step)
        raise ValueError(
            f"gnConv of order {order} halves its width {order - 1} times, so the width must be a multiple of "
            f"{step}, not {dim}; the nearest that works is {nearest}"
        )
    return tuple(dim // 2 ** (order - 1 - k) for k in range(order))


def build_mixer(mixer: Mixer, channels: int, *, grid: tuple[int, int]) -> nn.Module:
    """The module of f for `channels` channels; it must keep channels, height and width.

    Raises:
        ValueError: an unknown name, an even kernel, or a grid below 1 x 1.
    """
    if callable(mixer):
        return mixer(channels)
    if isinstance(mixer, int):
        return depthwise(channels, mixer)
    if mixer == "7x7":
        return depthwise(channels, 7)
    if mixer == "gf":
        return GlobalLocalFilter(channels, grid=grid)
    raise ValueError(
        f'unknown mixer {mixer!r}: it is "7x7", "gf", an odd kernel size, or a function of the width'
    )


class GnConv(nn.Module):
    """gnConv of order n: self-modulation between n branches of growing width, at the cost of a convolution.

    Args:
        dim: C, the width in and out; a multiple of 2^(order - 1).
        order: n, the number of gatings.
        mixer: f, shared by all orders: one depthwise operator over the S = c_0 + .. + c_{n-1} channels of q.
        grid: (h, w) of the global filter; read for mixer="gf" only.
        scale: 1 / alpha of eq. (3.3). It multiplies f, that is every order, so the product gets scale^n.

    Raises:
        ValueError: an impossible width or order, an unknown mixer, an even kernel, a grid below 1 x 1.
    """

    def __init__(
        self,
        dim: int,
        *,
        order: int = 5,
        mixer: Mixer = "7x7",
        grid: tuple[int, int] = (14, 8),
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.widths = branch_widths(dim, order)
        self.total_width = sum(self.widths)  # S; c_0 + S = 2C exactly
        self.scale = scale
        self.proj_in = nn.Conv2d(dim, 2 * dim, 1)
        self.dwconv = build_mixer(mixer, self.total_width, grid=grid)
        self.proj_out = nn.Conv2d(dim, dim, 1)
        self.pws = nn.ModuleList(
            nn.Conv2d(narrow, wide, 1) for narrow, wide in zip(self.widths, self.widths[1:], strict=False)
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Recursive gating, eqs. (3.2)-(3.4). Shape in and out: (B, C, H, W)."""
        # eq. (3.2): p_0 first, then q_0 .. q_{n-1} in ascending width
        p, q = self.proj_in(x_BCHW).split((self.widths[0], self.total_width), dim=1)
        # eq. (3.3), f(q_k) / alpha: one depthwise pass serves every order
        gates = (self.dwconv(q) * self.scale).split(self.widths, dim=1)
        x = p * gates[0]  # eq. (3.3) with g_0 = identity
        for widen, gate in zip(self.pws, gates[1:], strict=True):  # g_k of eq. (3.4): c_{k-1} -> c_k
            x = widen(x) * gate
        out: Tensor = self.proj_out(x)
        return out

    def extra_repr(self) -> str:
        return f"{self.widths[-1]}, order={len(self.widths)}, scale={self.scale:.4g}"
