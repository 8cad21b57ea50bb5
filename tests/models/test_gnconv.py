"""gnConv and the global filter against references written another way, over shapes, dtypes and layouts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gpu import DEVICES
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import naive_filter, naive_gnconv, naive_norm
from torch import Tensor, nn

from hornet_train.models import GlobalLocalFilter, GnConv
from hornet_train.models.global_filter import filter_globally
from hornet_train.models.kernels.dispatch import use_kernels
from hornet_train.models.kernels.fourier import filter_by_matrices
from hornet_train.models.layers import LayerNorm

few = settings(max_examples=25, deadline=None, derandomize=True)


def randomise(module: nn.Module) -> nn.Module:
    """Every parameter from a normal wide enough that each one shows in the output."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            draw = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.copy_(0.5 * draw + (1.0 if parameter.ndim == 1 else 0.0))
    return module


sides = st.integers(1, 9)


@few
@given(
    order=st.integers(1, 5),
    c0=st.integers(1, 3),
    out_dim=st.sampled_from([None, 1, 5]),
    mixer=st.sampled_from(["7x7", "1x1", 3, 5, "9x9", "pool", "gf"]),
    grid=st.tuples(st.integers(1, 6), st.integers(1, 5)),
    scale=st.sampled_from([1.0, 1 / 3]),
    height=sides,
    width=sides,
)
def test_gnconv_equals_the_naive_one(order, c0, out_dim, mixer, grid, scale, height, width):
    dim = (2 * c0 if mixer == "gf" else c0) * 2 ** (order - 1)
    layer = randomise(
        GnConv(dim, order=order, out_dim=out_dim, mixer=mixer, grid=grid, scale=scale, dtype=torch.float64)
    )
    x = torch.randn(2, dim, height, width, dtype=torch.float64)
    out = layer(x)
    assert out.shape == (2, out_dim or dim, height, width)
    assert out.dtype == torch.float64
    np.testing.assert_allclose(
        out.detach().numpy(), naive_gnconv(layer, x.numpy(), order, scale), rtol=1e-7, atol=1e-9
    )


@few
@given(
    half=st.integers(1, 4),
    grid=st.tuples(st.integers(1, 7), st.integers(1, 6)),
    height=sides,
    width=sides,
    channels_last=st.booleans(),
)
def test_global_filter_equals_the_naive_one(half, grid, height, width, channels_last):
    layer = randomise(GlobalLocalFilter(2 * half, grid=grid).double())
    x = torch.randn(2, 2 * half, height, width, dtype=torch.float64)
    expected = naive_filter(layer, x.numpy())
    if channels_last:
        layer, x = layer.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    np.testing.assert_allclose(layer(x).detach().numpy(), expected, rtol=1e-7, atol=1e-9)


@few
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    down=st.integers(0, 8),
    right=st.integers(0, 8),
)
def test_the_global_half_commutes_with_circular_shifts(height, width, down, right):
    """Whatever the grid it is stored on: a product of spectra is a circular convolution."""
    weight = torch.randn(3, 4, 3, 2, dtype=torch.float64)
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    shifted = filter_globally(x.roll((down, right), (2, 3)), weight)
    torch.testing.assert_close(shifted, filter_globally(x, weight).roll((down, right), (2, 3)))


@few
@given(order=st.integers(1, 4), kernel=st.sampled_from([1, 3, 7]), down=st.integers(0, 4))
def test_gnconv_commutes_with_shifts_inside_the_map(order, kernel, down):
    """A pixel further from the border than half the kernel sees no padding."""
    layer = randomise(GnConv(8, order=order, mixer=kernel).double())
    scene = torch.randn(1, 8, 20, 12, dtype=torch.float64)
    above, below = layer(scene[:, :, :16]), layer(scene[:, :, down : 16 + down])
    far = kernel // 2
    torch.testing.assert_close(
        above[:, :, down + far : 16 - far, far : 12 - far], below[:, :, far : 16 - down - far, far : 12 - far]
    )


def _differentiable(layer: nn.Module, channels: int) -> tuple[object, tuple[Tensor, ...]]:
    """The layer as a function of its input and of every parameter, for gradcheck."""
    names = [name for name, _ in layer.named_parameters()]
    x = torch.randn(1, channels, 3, 4, dtype=torch.float64, requires_grad=True)

    def call(x: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    return call, (x, *(p.detach().clone().requires_grad_() for p in layer.parameters()))


@pytest.mark.parametrize(
    ("mixer", "order", "out_dim"), [(3, 2, None), ("gf", 2, None), ("pool", 3, 2), (1, 1, None)]
)
def test_gnconv_gradients(mixer, order, out_dim):
    layer = randomise(GnConv(4, order=order, out_dim=out_dim, mixer=mixer, grid=(2, 3), scale=1 / 3).double())
    assert torch.autograd.gradcheck(*_differentiable(layer, 4))


def test_global_filter_gradients():
    for grid in ((3, 3), (4, 2)):  # the grid of a 3 x 4 map, and one that is resized
        layer = randomise(GlobalLocalFilter(4, grid=grid).double())
        assert torch.autograd.gradcheck(*_differentiable(layer, 4))


@pytest.mark.parametrize("side", [7, 14, 24, 96, 128, 160])
@pytest.mark.parametrize("device", DEVICES)
def test_a_filter_of_any_size_is_the_same_everywhere(device, side):
    """cuFFT's irfft2 is another function of filters whose first column is not Hermitian, for 128 pixels."""
    x = torch.randn(2, 8, side, side).contiguous(memory_format=torch.channels_last)[:, 4:]
    weight = torch.randn(4, side, side // 2 + 1, 2)
    expected = filter_globally(x.double(), weight.double())
    for found in (filter_globally, filter_by_matrices):
        error = found(x.to(device), weight.to(device)).cpu() - expected
        assert error.abs().max() < 2e-6 * expected.abs().max()


@pytest.mark.parametrize("by_matrices", [False, True])
def test_filters_never_run_in_half_precision(monkeypatch, by_matrices):
    seen = []
    real = torch.fft.rfft2
    monkeypatch.setattr(torch.fft, "rfft2", lambda x, **k: seen.append(x.dtype) or real(x, **k))
    layer, x = randomise(GlobalLocalFilter(8, grid=(5, 3))), torch.randn(2, 8, 5, 5)
    layer.plain = not by_matrices
    full = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = layer(x)
    pure = layer.bfloat16()(x.bfloat16())
    assert seen == ([] if by_matrices else [torch.float32] * 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.filtered(x[:, :4].bfloat16()).dtype == torch.float32
    assert pure.dtype == torch.bfloat16
    for half in (mixed, pure):
        assert torch.linalg.vector_norm(half.float() - full) < 0.02 * torch.linalg.vector_norm(full)


def test_gating_leaves_float16_alone():
    """Products beyond 65,504, of factors far below: infinite in float16, right under its autocast."""
    layer = GnConv(16, order=4, mixer=1)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.fill_(40.0 if name.endswith("in.bias") else 0.0)
        layer.dwconv.weight.fill_(1.0)
        for narrow in layer.pws:
            narrow.weight.copy_(torch.eye(*narrow.weight.shape[:2])[:, :, None, None])
        layer.proj_out.weight.copy_(1e-3 * torch.eye(16)[:, :, None, None])
    x = torch.randn(2, 16, 3, 3)
    exact = layer(x)
    assert exact.max() > 2 * torch.finfo(torch.float16).max * 1e-3
    with torch.autocast("cpu", torch.float16):
        gates = layer.dwconv(layer.proj_in(x)[:, layer.widths[0] :])
        half = layer(x)
    assert gates.dtype == torch.float16
    assert gates.max() < 41
    torch.testing.assert_close(half, exact, rtol=2e-3, atol=0)


def test_layer_norm_is_over_channels():
    norm, x = randomise(LayerNorm(6)), torch.randn(2, 6, 3, 5)
    expected = naive_norm(x.double().numpy(), norm.weight.detach().numpy(), norm.bias.detach().numpy())
    out = norm(x)
    np.testing.assert_allclose(out.detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_a_mixer_may_be_a_function_of_the_width(capfd):
    layer = GnConv(8, order=3, mixer=lambda width: nn.Conv2d(width, width, 1), dtype=torch.float64)
    assert layer.dwconv.in_channels == layer.total_width == 14
    assert layer(torch.randn(1, 8, 2, 3).double()).shape == (1, 8, 2, 3)
    assert capfd.readouterr() == ("", "")  # as no constructor prints


def test_numbers_of_numpy_will_do():
    layer = GnConv(np.int64(32), order=np.int32(3), mixer=np.int64(5))
    assert layer.widths == (8, 16, 32)
    assert layer.dwconv.kernel_size == (5, 5)


def test_arguments_after_the_width_have_names():
    with pytest.raises(TypeError, match="positional"):
        GnConv(64, 3)
    with pytest.raises(TypeError, match="positional"):
        GlobalLocalFilter(8, (4, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 100, "order": 5}, "multiple of 16, not 100; the nearest that works is 96"),
        ({"dim": 3, "order": 4}, "the nearest that works is 8"),
        ({"dim": 8, "order": 0}, "gnConv's order is a whole number from 1 on, not 0"),
        ({"dim": 16, "mixer": 4}, "must be odd"),
        ({"dim": 16, "mixer": "6x6"}, "must be odd to keep the size, not 6; use 7"),
        ({"dim": 16, "mixer": 0}, "must be odd"),
        ({"dim": 16, "mixer": "3x5"}, "unknown mixer '3x5': it is \"7x7\""),
        ({"dim": 16, "mixer": True}, "not True"),
        ({"dim": 16, "mixer": nn.Identity()}, "each gnConv needs one of its own width"),
        ({"dim": 16, "mixer": lambda width: width}, "gave 31 for 31 channels, which is no module"),
        (
            {"dim": 32, "mixer": "gf", "grid": (0, 4)},
            "each side of a global filter's grid is a whole number from 1 on, not 0",
        ),
        ({"dim": 32, "mixer": "gf", "grid": (4,)}, r"not \(4,\)"),
        ({"dim": 16, "mixer": "gf"}, "must be even, not 31"),
        ({"dim": 16, "out_dim": 0}, "out_dim is a whole number from 1 on, not 0"),
        ({"dim": 16, "order": 2.5}, "gnConv's order is a whole number from 1 on, not 2.5"),
        ({"dim": 16, "order": True}, "not True"),
        ({"dim": 16, "scale": float("nan")}, "scale is a finite number, not nan"),
        ({"dim": 32, "mixer": "gf", "grid": 5}, r"\(height, width // 2 \+ 1\) of its map, not 5"),
    ],
)
def test_impossible_options_are_refused_with_a_remedy(arguments, message):
    with pytest.raises(ValueError, match=message):
        GnConv(**arguments)


class OwnFilter(GlobalLocalFilter):
    """As a user derives it: without the scale that gnConv gives our own."""

    def forward(self, x_BSHW):
        return super().forward(x_BSHW) + 1


class OwnHalf(GlobalLocalFilter):
    def filtered(self, v_BCHW):
        return v_BCHW * 2


@pytest.mark.parametrize("mixer", [OwnFilter, OwnHalf])
def test_mixers_derived_from_ours_keep_what_they_override(mixer):
    torch.manual_seed(0)
    layer = GnConv(64, order=2, mixer=lambda width: mixer(width, grid=(14, 8)), scale=1 / 3)
    x = torch.randn(8, 64, 14, 14)
    found = layer(x)
    use_kernels(layer, "plain")
    torch.testing.assert_close(found, layer(x), rtol=1e-3, atol=1e-4)


def test_a_hook_on_the_mixer_sees_the_mixer():
    """Not with 1 / alpha in its weights, as it runs where nobody looks."""
    torch.manual_seed(0)
    layer, seen = GnConv(64, order=2, mixer="gf", grid=(14, 8), scale=1 / 3), []
    x = torch.randn(8, 64, 14, 14)
    known = layer(x)
    handle = layer.dwconv.register_forward_hook(lambda _, given, out: seen.append((len(given), out)))
    torch.testing.assert_close(layer(x), known, rtol=1e-3, atol=1e-4)
    handle.remove()
    ((inputs, out),) = seen
    assert inputs == 1
    assert out.std().item() == pytest.approx(1, abs=0.05)
