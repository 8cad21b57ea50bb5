"""The global filter by matrix products instead of FFTs.

The real FFT of an H x W map and its inverse are each two matrices, one for the columns and one for the rows.
For maps of few pixels their products take less time than an FFT, which wants each channel's map in one piece.

Layout suffixes: S is the width of the filtered half, h and w the stored frequency grid; `K` holds (real,
imaginary).
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from hornet_train.models.spectrum import at_least_float32, resize_filter

# height + width of a map up to which matrices are faster than FFTs on a CPU (docs/performance.md)
BY_MATRICES = 56


def takes_matrices(height: int, width: int, device: torch.device) -> bool:
    """Whether to filter a map by matrices: a small one on a CPU, and on a GPU any in compiled code.

    There torch's compiler knows no complex numbers (its issue 191330), and an FFT would break the graph.
    """
    if device.type == "cuda":
        return torch.compiler.is_compiling()
    return device.type == "cpu" and height + width <= BY_MATRICES


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


@functools.lru_cache(maxsize=32)
def block_matrices(height: int, width: int) -> dict[str, Tensor]:
    """The "ortho" transforms of an H x W map as real matrices in float32, ordered for blocks of channels.

    across: w to (f, re | im); down: (re | im, h) to (re | im, j), with f < W // 2 + 1 and j < H frequencies;
    up and back: their inverses, back to real values. The imaginary parts of the first and last f count
    nothing, as in torch.fft.irfft. `.._t`: transposed.
    """
    with torch.inference_mode(False), torch.no_grad():
        columns = width // 2 + 1
        w = torch.arange(width, dtype=torch.float64, device="cpu")
        f = torch.arange(columns, dtype=torch.float64, device="cpu")
        h = torch.arange(height, dtype=torch.float64, device="cpu")
        turn = torch.outer(f, w).remainder(width) * (2 * math.pi / width)
        across = torch.stack((turn.cos(), -turn.sin()), 1).reshape(2 * columns, width)
        both = torch.where((f == 0) | (2 * f == width), 1.0, 2.0)[:, None, None]  # the other half's share
        back = (torch.stack((turn.cos(), -turn.sin()), 1) * both).reshape(2 * columns, width).t()
        turn = torch.outer(h, h).remainder(height) * (2 * math.pi / height)
        cos, sin = turn.cos(), turn.sin()
        down = torch.cat((torch.cat((cos, sin), 1), torch.cat((-sin, cos), 1)))
        up = torch.cat((torch.cat((cos, -sin), 1), torch.cat((sin, cos), 1)))
        found = {
            "across": across / math.sqrt(width),
            "down": down / math.sqrt(height),
            "up": up / math.sqrt(height),
            "back": back / math.sqrt(width),
        }
        found |= {f"{name}_t": matrix.t() for name, matrix in found.items()}
        return {name: matrix.float().contiguous() for name, matrix in found.items()}


def filter_by_matrices(x_BSHW: Tensor, weight_ShwK: Tensor) -> Tensor:
    """The same as `filter_globally`, by matrix products that leave the channels last.

    For maps of few pixels these take less time than a FFT, which wants each channel's map in one piece.

    Shape in and out: (B, S, H, W); out: float32 or float64, channels_last.
    """
    height, width = x_BSHW.shape[2], x_BSHW.shape[3]
    dtype = at_least_float32(x_BSHW)
    filter_KhwS = resize_filter(weight_ShwK.to(dtype), height, width // 2 + 1).permute(3, 1, 2, 0)
    # what the compiler or a fake mode makes is not to be kept; compiled, each graph makes its own
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
        filter_KhwS: Tensor

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
