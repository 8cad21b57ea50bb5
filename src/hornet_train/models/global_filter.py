"""The global filter (GF): half of the channels through a learned filter in the frequency domain.

Layout suffixes: S is the width of the layer, h and w the stored frequency grid; `K` as last dimension holds
(real, imaginary).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]

from hornet_train.models.layers import DepthwiseConv2d, HasPlainPath, LayerNorm, computed_now
from hornet_train.models.options import whole

# height + width of a map up to which matrices are faster than FFTs on a CPU (docs/performance.md)
BY_MATRICES = 56


def resize_filter(weight_ShwK: Tensor, height: int, width: int) -> Tensor:
    """Resize a stored filter to another frequency grid, bilinearly with aligned corners, as published.

    Shape in: (S/2, h, w, 2); out: (S/2, height, width, 2). The tensor itself comes back where its grid is
    right.
    """
    if weight_ShwK.shape[1] == height and weight_ShwK.shape[2] == width:
        return weight_ShwK
    weight_KShw = weight_ShwK.permute(3, 0, 1, 2)
    resized = nn.functional.interpolate(
        weight_KShw, size=(height, width), mode="bilinear", align_corners=True
    )
    return resized.permute(1, 2, 3, 0)


def at_least_float32(x: Tensor) -> torch.dtype:
    """The dtype of x, float32 where that is of half precision."""
    return torch.promote_types(x.dtype, torch.float32)


@torch.fx.wrap  # one node for symbolic tracing, which cannot follow the comparison of grids
def filter_globally(x_BSHW: Tensor, weight_ShwK: Tensor) -> Tensor:
    """Circular convolution with a stored filter, as a product of spectra: irfft2(rfft2(x) * W), "ortho".

    The real FFT of an H x W map has the grid (H, W // 2 + 1): only the non-negative half of the columns'
    frequencies. A filter of another grid is resized to it.

    The inverse is taken one dimension at a time: the product of a column that has no imaginary part in its
    transform (the first, and the last of an even width) and any filter may have one, which is to be dropped
    after the columns are back. cuFFT's transform of both dimensions at once does otherwise from some size on.

    The FFT runs in float32 whatever autocast says (float64 stays float64): half-precision FFTs exist for
    powers of two only, and not in bfloat16 at all.

    Shape in and out: (B, S, H, W); out: float32 or float64.
    """
    height, width = x_BSHW.shape[2], x_BSHW.shape[3]
    dtype = at_least_float32(x_BSHW)
    weight_ShwK = resize_filter(weight_ShwK.to(dtype), height, width // 2 + 1)
    # not view_as_complex, which wants (re, im) side by side: channels_last permutes this 4-D weight too, and
    # the compiler may
    filter_Shw = torch.complex(weight_ShwK.select(3, 0), weight_ShwK.select(3, 1))
    spectrum = torch.fft.rfft2(x_BSHW.to(dtype), norm="ortho")
    columns = torch.fft.ifft(spectrum * filter_Shw, dim=2, norm="ortho")
    out: Tensor = torch.fft.irfft(columns, n=width, dim=3, norm="ortho")
    return out


def _angles(rows: int, columns: int, period: int, device: torch.device) -> Tensor:
    """2 pi r c / period, of (rows, columns), in float64."""
    whole_turns = torch.outer(
        torch.arange(rows, device=device, dtype=torch.float64),
        torch.arange(columns, device=device, dtype=torch.float64),
    ).remainder(period)
    return whole_turns * (2 * math.pi / period)


def fourier_matrices(
    height: int, width: int, *, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The "ortho" transforms of an H x W map as real matrices, one dimension at a time; F = W // 2 + 1.

    Returns:
        down (2H, H): h to (frequency, re | im); across (2F, 2W): (re | im, w) to (re | im, frequency);
        up (2H, 2H): the inverse of `down`, complex to (h, re | im); back (W, 2F): that of `across`, to real
        values. The imaginary parts of its first and last frequency count nothing, as in torch.fft.irfft.
    """
    half = width // 2 + 1
    turn = _angles(height, height, height, device)
    cos, sin = turn.cos(), turn.sin()
    down = torch.stack((cos, -sin), 1).reshape(2 * height, height)
    up = torch.stack((torch.stack((cos, -sin), 2), torch.stack((sin, cos), 2)), 1)
    up = up.reshape(2 * height, 2 * height)
    turn = _angles(half, width, width, device)
    cos, sin = turn.cos(), turn.sin()
    across = torch.cat((torch.cat((cos, sin), 1), torch.cat((-sin, cos), 1)))
    frequency = torch.arange(half, device=device)
    both = torch.where((frequency == 0) | (2 * frequency == width), 1.0, 2.0)  # the other half's share
    back = torch.cat((cos.t() * both, -sin.t() * both), 1)
    over_height, over_width = 1 / math.sqrt(height), 1 / math.sqrt(width)
    matrices = (down * over_height, across * over_width, up * over_height, back * over_width)
    first, second, third, fourth = (matrix.to(dtype) for matrix in matrices)
    return first, second, third, fourth


@functools.lru_cache(maxsize=32)
def _kept_matrices(
    height: int, width: int, *, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`fourier_matrices`, which training may use after an evaluation has made them."""
    with torch.inference_mode(False), torch.no_grad():
        return fourier_matrices(height, width, device=device, dtype=dtype)


def takes_matrices(height: int, width: int, device: torch.device) -> bool:
    """Whether a map is to be filtered by matrices: small ones on a CPU, and on a GPU what is compiled.

    There torch's compiler knows no complex numbers (its issue 191330), and an FFT would break it.
    """
    if device.type == "cuda":
        return torch.compiler.is_compiling()
    return device.type == "cpu" and height + width <= BY_MATRICES


def filter_by_matrices(x_BSHW: Tensor, weight_ShwK: Tensor) -> Tensor:
    """The same as `filter_globally`, by matrix products that leave the channels last.

    For maps of few pixels these take less time than a FFT, which wants each channel's map in one piece.

    Shape in and out: (B, S, H, W); out: float32 or float64, channels_last.
    """
    height, width = x_BSHW.shape[2], x_BSHW.shape[3]
    dtype = at_least_float32(x_BSHW)
    filter_KhwS = resize_filter(weight_ShwK.to(dtype), height, width // 2 + 1).permute(3, 1, 2, 0)
    # the compiler makes them once for all layers; what it or a fake mode makes is not to be kept
    keep = type(x_BSHW) is Tensor and not torch.compiler.is_compiling()
    make = _kept_matrices if keep else fourier_matrices
    matrices = make(height, width, device=x_BSHW.device, dtype=dtype)
    return _filtered(x_BSHW, filter_KhwS.contiguous(), matrices)


def _filtered(x_BSHW: Tensor, filter_KhwS: Tensor, matrices: tuple[Tensor, Tensor, Tensor, Tensor]) -> Tensor:
    """The products themselves, in the dtype of the filter, whatever autocast says."""
    batch, width_S, height, width = x_BSHW.shape
    half = width // 2 + 1
    down, across, up, back = matrices
    rows, lines = (batch, -1, -1), (batch * height, -1, -1)
    with torch.autocast(x_BSHW.device.type, enabled=False):
        x = x_BSHW.permute(0, 2, 3, 1).to(filter_KhwS.dtype).reshape(batch, height, width * width_S)
        x = (down.expand(rows) @ x).view(batch * height, 2 * width, width_S)
        spectrum = (across.expand(lines) @ x).view(batch, height, 2, half, width_S)
        re, im = spectrum.unbind(2)
        filter_re, filter_im = filter_KhwS.unbind(0)
        x = torch.stack((re * filter_re - im * filter_im, re * filter_im + im * filter_re), 2)
        x = (up.expand(rows) @ x.view(batch, 2 * height, half * width_S)).view(-1, 2 * half, width_S)
        out_BHWS = (back.expand(lines) @ x).view(batch, height, width, width_S)
    return out_BHWS.permute(0, 3, 1, 2)


class FixedFilter(nn.Module):
    """`filter_by_matrices` of one filter for maps of one size: all that depends on nothing else is computed.

    Args:
        weight_ShwK: the stored filter, of any grid.
        height, width: of the maps.
    """

    if TYPE_CHECKING:  # TorchScript, which has the FFT, would try to understand these
        down: Tensor
        across: Tensor
        up: Tensor
        back: Tensor
        filter_KhwS: Tensor  # noqa: N815 - its layout

    def __init__(self, weight_ShwK: Tensor, height: int, width: int) -> None:
        super().__init__()
        self.size = (height, width)
        dtype = at_least_float32(weight_ShwK)
        weight_ShwK = resize_filter(weight_ShwK.detach().to(dtype), height, width // 2 + 1)
        matrices = fourier_matrices(height, width, device=weight_ShwK.device, dtype=dtype)
        for name, matrix in zip(("down", "across", "up", "back"), matrices, strict=True):
            self.register_buffer(name, matrix, persistent=False)
        self.register_buffer("filter_KhwS", weight_ShwK.permute(3, 1, 2, 0).contiguous(), persistent=False)

    def serves(self, x_BSHW: Tensor) -> bool:
        """Whether it is for such maps; not once the model was cast to another precision."""
        return x_BSHW.shape[2:] == self.size and self.down.dtype == at_least_float32(x_BSHW)

    @torch.jit.unused
    def forward(self, x_BSHW: Tensor) -> Tensor:
        """Shape in and out: (B, S, height, width); out: float32 or float64."""
        return _filtered(x_BSHW, self.filter_KhwS, (self.down, self.across, self.up, self.back))


class GlobalLocalFilter(nn.Module, HasPlainPath):
    """The GF layer f of gnConv: 3x3 depthwise on one half, a global filter on the other, interleaved.

    local = dw3x3(u),  global = irfft2(rfft2(v) * W)  (both FFTs "ortho"),  where (u | v) = LN(x);
    y = LN(interleave(local, global)), output channel 2i from local_i and 2i+1 from global_i. On a CPU,
    filters of small maps are products of matrices instead of FFTs; so are all in code compiled for a GPU.

    Args:
        dim: S, even.
        grid: (h, w) of the stored filter; H x W feature maps need (H, W // 2 + 1), any other is resized to it
            in every forward.
        device, dtype: of the parameters.

    Raises:
        ValueError: an odd `dim`, or a grid that is not two numbers from 1 on.
    """

    def __init__(
        self,
        dim: int,
        *,
        grid: tuple[int, int],
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if dim < 2 or dim % 2:
            raise ValueError(
                f"the global filter halves its channels, so their number must be even, not {dim}; "
                "use a width whose smallest branch is even"
            )
        if not isinstance(grid, Sequence) or len(grid) != 2:
            raise ValueError(f"a global filter's grid is (height, width // 2 + 1) of its map, not {grid!r}")
        height, width = (whole("each side of a global filter's grid", side) for side in grid)
        # stored real: (re, im) last
        self.complex_weight = nn.Parameter(
            torch.empty(dim // 2, height, width, 2, device=device, dtype=dtype)
        )
        self.reset_parameters()
        self.dw = DepthwiseConv2d(dim // 2, 3, bias=False, device=device, dtype=dtype)
        self.pre_norm = LayerNorm(dim, device=device, dtype=dtype)
        self.post_norm = LayerNorm(dim, device=device, dtype=dtype)
        self.plain = False
        self.fixed: FixedFilter | None = None

    def reset_parameters(self) -> None:
        """The filter from a normal of std 0.02 (truncated at +-2); the layers in it have their own."""
        trunc_normal_(self.complex_weight, std=0.02)

    def resize(self, grid: tuple[int, int]) -> None:
        """Store the filter on another grid, as a new parameter, instead of resizing it in every forward."""
        weight = self.complex_weight
        if weight.shape[1:3] == grid:
            return
        with torch.no_grad():
            resized = resize_filter(weight.to(at_least_float32(weight)), *grid)
        self.complex_weight = nn.Parameter(resized.to(weight.dtype), requires_grad=weight.requires_grad)

    def fix(self, height: int, width: int) -> None:
        """Compute for maps of one size what depends on nothing else; other sizes run as before."""
        if takes_matrices(height, width, self.complex_weight.device):
            self.fixed = FixedFilter(self.complex_weight, height, width)
        else:
            self.resize((height, width // 2 + 1))

    def forward(self, x_BSHW: Tensor) -> Tensor:
        """Shape in and out: (B, S, H, W), any H and W."""
        u, v = self.pre_norm(x_BSHW).chunk(2, dim=1)
        local = self.dw(u)
        everywhere = self.filtered(v).to(local.dtype)
        # (B, H, W, S/2, 2) -> (B, H, W, S): both are channels_last, as the norms are
        interleaved_BHWS = torch.stack(
            (local.permute(0, 2, 3, 1), everywhere.permute(0, 2, 3, 1)), 4
        ).flatten(3)
        out: Tensor = self.post_norm(interleaved_BHWS.permute(0, 3, 1, 2))
        return out

    def filtered(self, v_BSHW: Tensor) -> Tensor:
        """The global half, in float32 or float64. Shape in and out: (B, S/2, H, W)."""
        if not is_scripting():  # noqa: SIM102 - as in GnConv
            if not self.plain and computed_now(v_BSHW):
                if self.fixed is not None and self.fixed.serves(v_BSHW):
                    fixed: Tensor = self.fixed(v_BSHW)
                    return fixed
                if takes_matrices(v_BSHW.shape[2], v_BSHW.shape[3], v_BSHW.device):
                    return filter_by_matrices(v_BSHW, self.complex_weight)
        out: Tensor = filter_globally(v_BSHW, self.complex_weight)
        return out

    def extra_repr(self) -> str:
        half, height, width, _ = self.complex_weight.shape
        return f"{2 * half}, grid=({height}, {width})"
