"""The depthwise convolution's own passes against torch's in float64, and with all that is put around them."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from hornet_train.models.global_filter import filter_globally
from hornet_train.models.hornet import HorNet
from hornet_train.models.kernels import depthwise as kernels
from hornet_train.models.kernels.dispatch import use_kernels
from hornet_train.models.kernels.fourier import filter_by_matrices
from hornet_train.models.layers import DepthwiseConv2d

pytestmark = pytest.mark.skipif(not kernels.AVAILABLE, reason="torch's OpenMP library is another one here")
ROUNDING = {torch.float32: 2e-6, torch.bfloat16: 5e-3}


def differs(ours, reference):
    return ((ours.double() - reference).abs().max() / reference.abs().max().clamp_min(1e-30)).item()


def made(*shape, dtype=torch.float32, layout=torch.channels_last):
    x = torch.randn(*shape).to(dtype)
    return x.contiguous(memory_format=layout) if x.dim() == 4 else x


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 20), st.integers(16, 70), st.integers(1, 19), st.integers(1, 19)),
    taps=st.sampled_from(kernels.TAPS),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    bias=st.booleans(),
    layout=st.sampled_from(["channels_last", "contiguous", "slice"]),
    seed=st.integers(0, 1000),
)
def test_outputs_and_gradients_are_those_of_float64(shape, taps, dtype, bias, layout, seed):
    torch.manual_seed(seed)
    images, channels, height, width = shape
    x = made(images, channels + 5, height, width, dtype=dtype)[:, 5:]
    if layout != "slice":
        x = x.contiguous(
            memory_format=getattr(torch, f"{layout}_format" if layout == "contiguous" else layout)
        )
    x = x.detach().requires_grad_()
    weight = torch.randn(channels, 1, taps, taps, requires_grad=True)
    wanted = [x, weight] + ([torch.randn(channels, requires_grad=True)] if bias else [])
    gradient = made(*shape, dtype=dtype)
    assert kernels.serves(x, weight)
    out = kernels.depthwise(x, weight, wanted[2] if bias else None)
    gradients = torch.autograd.grad(out, wanted, gradient)
    exact = [one.detach().double().requires_grad_() for one in wanted]
    reference = F.conv2d(*exact, padding=taps // 2, groups=channels)
    assert out.dtype == dtype
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert differs(out, reference) < ROUNDING[dtype]
    for ours, theirs, tensor in zip(
        gradients, torch.autograd.grad(reference, exact, gradient.double()), wanted, strict=True
    ):
        assert ours.dtype == tensor.dtype
        assert differs(ours, theirs) < (1e-5 if tensor is not x else ROUNDING[dtype])


def test_second_derivatives_are_those_of_float64():
    torch.manual_seed(0)
    tensors = [made(3, 18, 6, 5), torch.randn(18, 1, 7, 7), torch.randn(18)]

    def second(convolve, tensors):
        tensors = [tensor.detach().requires_grad_() for tensor in tensors]
        first = torch.autograd.grad(convolve(*tensors).pow(3).sum(), tensors, create_graph=True)
        return torch.autograd.grad(sum(one.square().sum() for one in first), tensors)

    ours = second(kernels.depthwise, tensors)
    reference = second(
        lambda x, w, b: F.conv2d(x, w, b, padding=3, groups=18), [tensor.double() for tensor in tensors]
    )
    assert all(differs(a, b) < 1e-5 for a, b in zip(ours, reference, strict=True))


def test_torch_finds_nothing_wrong_with_the_operators():
    x, weight, bias = made(2, 20, 6, 5).requires_grad_(), torch.randn(20, 1, 5, 5, requires_grad=True), None
    for operator, arguments in (
        (kernels.depthwise, (x, weight, bias)),
        (kernels.depthwise_gradient, (x, made(2, 20, 6, 5), 5)),
    ):
        found = torch.library.opcheck(operator, arguments)
        assert len(found) == 4
        assert set(found.values()) == {"SUCCESS"}


def test_bfloat16_is_rounded_as_torch_rounds():
    values = torch.cat(
        (torch.randn(4000).exp(), torch.tensor([0.0, -0.0, 3.4e38, -3.4e38, float("inf"), 1e-39]))
    )
    x = (
        values.bfloat16()
        .repeat(1, 1, 1, 1)
        .expand(1, 16, 1, -1)
        .contiguous(memory_format=torch.channels_last)
    )
    weight = torch.zeros(16, 1, 7, 7)
    weight[:, :, 3, 3] = 1.00123
    finite = x.isfinite().all(1, keepdim=True).expand_as(x)
    ours, theirs = kernels.depthwise(x, weight, None), (x.float() * 1.00123).bfloat16()
    # an infinity makes its neighbours not numbers, through the taps of weight 0
    away = finite & ~torch.isnan(ours)
    assert away.sum() > 16 * 3990
    assert torch.equal(ours[away], theirs[away])
    assert kernels.depthwise(x * float("nan"), weight, None).isnan().all()


def test_results_do_not_depend_on_the_number_of_threads():
    x, gradient, weight = made(21, 40, 9, 9), made(21, 40, 9, 9), torch.randn(40, 1, 7, 7)

    def results():
        return (kernels.depthwise(x, weight, None), *kernels.depthwise_gradient(x, gradient, 7))

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = results()
        torch.set_num_threads(5)
        together = results()
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


@settings(max_examples=40, deadline=None)
@given(height=st.integers(1, 17), width=st.integers(1, 17), exact_grid=st.booleans(), seed=st.integers(0, 99))
def test_filters_by_matrices_are_those_by_fft(height, width, exact_grid, seed):
    torch.manual_seed(seed)
    x = made(2, 6, height, width)[:, 3:].double().requires_grad_()
    grid = (height, width // 2 + 1) if exact_grid else (5, 4)
    weight = torch.randn(3, *grid, 2, dtype=torch.float64, requires_grad=True)
    ours, theirs = filter_by_matrices(x, weight), filter_globally(x, weight)
    torch.testing.assert_close(ours, theirs)
    gradient = torch.randn_like(ours)
    for a, b in zip(
        *(torch.autograd.grad(out, (x, weight), gradient) for out in (ours, theirs)), strict=True
    ):
        torch.testing.assert_close(a, b)
    single = filter_by_matrices(x.float(), weight.float())
    assert differs(single, theirs.detach()) < 2e-6


def small(**options):
    torch.manual_seed(0)
    return HorNet(num_classes=5, depths=(1, 1), dim=16, orders=(2, 3), img_size=32, **options)


def gradients(model, run):
    model.zero_grad()
    run(model).float().square().sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("around", ["compile", "checkpoint", "stage"])
def test_gradients_are_the_plain_paths_under_what_is_put_around(around):
    x = made(3, 3, 32, 32)
    model = small()
    use_kernels(model, "plain")
    plain = gradients(model, lambda model: model(x))
    use_kernels(model, "auto")
    if around == "compile":
        compiled = torch.compile(model, fullgraph=True, dynamic=False)
        fast = gradients(model, lambda _: compiled(x))
    elif around == "checkpoint":
        fast = gradients(model, lambda model: checkpoint(model, x, use_reentrant=False))
    else:
        model.set_grad_checkpointing()
        fast = gradients(model, lambda model: model(x))
    for name, gradient in plain.items():
        torch.testing.assert_close(
            fast[name], gradient, rtol=2e-4, atol=1e-6 * gradient.abs().max().item() + 1e-9
        )


def test_autocast_runs_the_convolutions_in_bfloat16(monkeypatch):
    seen = []
    operator = kernels.depthwise
    monkeypatch.setattr(
        kernels, "depthwise", lambda x, w, b: seen.append((x.dtype, w.dtype)) or operator(x, w, b)
    )
    x, model = made(2, 3, 32, 32), small()
    exact = gradients(model, lambda model: model(x))
    assert seen.pop() == (torch.float32, torch.float32)
    seen.clear()
    with torch.autocast("cpu", torch.bfloat16):
        lower = gradients(model, lambda model: model(x))
    assert seen == [(torch.bfloat16, torch.float32)] * 4  # two forward, two for the gradients of x
    far = [name for name in exact if differs(lower[name], exact[name].double()) > 0.08]
    assert not far


def test_the_plain_path_is_one_switch_away(monkeypatch):
    def fail(*_):
        raise AssertionError("not plain")

    monkeypatch.setattr(kernels, "depthwise", fail)
    model, x = small(), made(1, 3, 32, 32)
    with pytest.raises(AssertionError, match="not plain"):
        model(x)
    use_kernels(model, "plain")
    assert model(x).isfinite().all()
    use_kernels(model, "auto")
    for other in (model.double(),):
        assert other(x.double()).isfinite().all()


def test_what_is_not_served_runs_as_torchs_convolution():
    for layer, x in (
        (DepthwiseConv2d(8, 7), made(1, 8, 5, 5)),  # fewer channels than a block
        (DepthwiseConv2d(32, 13), made(1, 32, 5, 5)),
        (DepthwiseConv2d(32, 7).double(), made(1, 32, 5, 5).double()),
    ):
        assert not kernels.serves(x, layer.weight)
        reference = F.conv2d(x, layer.weight, layer.bias, padding=layer.padding, groups=layer.groups)
        torch.testing.assert_close(layer(x, 0.5), 0.5 * reference)
    empty = DepthwiseConv2d(32, 7)(made(0, 32, 5, 5))
    assert empty.shape == (0, 32, 5, 5)


@pytest.mark.long
def test_compiled_loops_are_found_again_by_the_next_process(tmp_path):
    code = (
        "import torch; from hornet_train.models.kernels import depthwise as k; x = torch.ones(1, 16, 3, 3);"
        "k.depthwise(x, torch.ones(16, 1, 5, 5), None); k.depthwise_gradient(x, x, 5)"
    )
    kept = []
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-c", code],
            check=True,
            env={"NUMBA_CACHE_DIR": str(tmp_path), "PATH": ""},
            timeout=300,
        )
        kept.append({path.name: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nbc")})
    assert len(kept[0]) == 2
    assert kept[0] == kept[1]
