"""The global filter (GF): half of the channels through a learned filter in the frequency domain.

Layout suffixes: `x_BSHW` is batch, channels (S in all, C = S/2 in each half), height, width; h and w are the
stored frequency grid; `K` as last dimension holds (real, imaginary).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from timm.layers import trunc_normal_
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]

from hornet_train.models.kernels import dispatch
from hornet_train.models.kernels.fourier import FixedFilter, takes_matrices
from hornet_train.models.layers import DepthwiseConv2d, LayerNorm
from hornet_train.models.options import whole_number
from hornet_train.models.spectrum import at_least_float32, resize_filter


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


class GlobalLocalFilter(nn.Module, dispatch.HasKernels):
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
        height, width = (whole_number("each side of a global filter's grid", side) for side in grid)
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

    def forward(self, x_BSHW: Tensor, scale: float = 1.0) -> Tensor:
        """`scale` times the layer; on a CPU for no more than a scaled norm.

        Shape in and out: (B, S, H, W), any H and W.
        """
        if not is_scripting():  # TorchScript compiles nothing under a false `if`
            fast_BSHW = dispatch.global_local(self, x_BSHW, scale)
            if fast_BSHW is not None:
                return fast_BSHW
        u_BCHW, v_BCHW = self.pre_norm(x_BSHW).chunk(2, dim=1)  # C = S/2
        local_BCHW = self.dw(u_BCHW)
        global_BCHW = self.filtered(v_BCHW).to(local_BCHW.dtype)
        # channels last, as the norms are, so that each pixel's channels interleave without a copy more
        both_BHWC2 = torch.stack((local_BCHW.permute(0, 2, 3, 1), global_BCHW.permute(0, 2, 3, 1)), 4)
        y_BSHW: Tensor = self.post_norm(both_BHWC2.flatten(3).permute(0, 3, 1, 2))
        return y_BSHW if scale == 1.0 else y_BSHW * scale

    def filtered(self, v_BCHW: Tensor) -> Tensor:
        """The global half, in float32 or float64. Shape in and out: (B, S/2, H, W)."""
        if not is_scripting():  # TorchScript compiles nothing under a false `if`
            fast_BCHW = dispatch.global_filter(self, v_BCHW)
            if fast_BCHW is not None:
                return fast_BCHW
        y_BCHW: Tensor = filter_globally(v_BCHW, self.complex_weight)
        return y_BCHW

    def extra_repr(self) -> str:
        half, height, width, _ = self.complex_weight.shape
        return f"{2 * half}, grid=({height}, {width})"


def has_filters(model: nn.Module) -> bool:
    """Whether a model has global filters, which are for images of one size."""
    return any(isinstance(module, GlobalLocalFilter) for module in model.modules())
