"""The operators over rows of pixels against the same formulas in float64, and blocks made of them."""

import copy
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from helpers import torchrun
from hypothesis import given, settings
from hypothesis import strategies as st

from hornet_train.models.block import Block
from hornet_train.models.global_filter import filter_globally
from hornet_train.models.gnconv import GnConv
from hornet_train.models.hornet import HorNet
from hornet_train.models.kernels import (
    gating,
    global_local,
    mlp,
    openmp,
    pieces,
    projection,
    rows,
    rowwise,
    tiles,
)
from hornet_train.models.kernels.dispatch import use_kernels
from hornet_train.models.kernels.instructions import WIDTH
from hornet_train.models.layers import LayerNorm, PointwiseConv2d

pytestmark = pytest.mark.skipif(not openmp.available(), reason="torch's OpenMP library is another one here")
ROUNDING = {torch.float32: 2e-6, torch.bfloat16: 1e-2}
GRADIENT_ROUNDING = {torch.float32: 2e-5, torch.bfloat16: 3e-2}


@pytest.fixture(autouse=True)
def small_maps(monkeypatch):
    """Also for small maps, cut into pieces of few rows."""
    monkeypatch.setattr(rows, "SMALLEST", 0)
    monkeypatch.setattr(pieces, "ROWS", 7)
    monkeypatch.setattr(tiles, "HELD", 1 << 14)


def differs(ours, reference):
    return ((ours.double() - reference).norm() / reference.norm().clamp_min(1e-30)).item()


def made(*shape, dtype=torch.float32, offset=0.0):
    x = (offset + torch.randn(*shape)).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
    return x.requires_grad_()


def norm(x, weight, bias):
    return F.layer_norm(x.permute(0, 2, 3, 1), weight.shape, weight, bias, 1e-6).permute(0, 3, 1, 2)


def pointwise(x, weight, bias):
    return F.conv2d(x, weight.flatten(1)[:, :, None, None], bias)


def reference_project(x, w, b, weight, bias):
    return pointwise(norm(x, w, b), weight, bias)


def scaled(branch, factor, gamma):
    branch = branch if gamma is None else branch * gamma[:, None, None]
    return branch if factor is None else branch * factor[:, None, None, None]


def reference_mlp(x, factor, gamma, w, b, w1, b1, w2, b2):
    hidden = pointwise(norm(x, w, b), w1, b1)
    return x + scaled(pointwise(hidden * torch.special.ndtr(hidden), w2, b2), factor, gamma)


def reference_gating(p, gates, residual, factor, gamma, *parameters):
    *widening, weight, bias = parameters
    widths = [p.shape[1], *(len(one) for one in widening[1::2])]
    first, *others = gates.split(widths, dim=1)
    x = p * first
    for w, b, gate in zip(widening[::2], widening[1::2], others, strict=True):
        x = pointwise(x, w, b) * gate
    y = scaled(pointwise(x, weight, bias), factor, gamma)
    return y if residual is None else residual + y


def compare(ours, inputs, reference, lower):
    """Outputs and gradients of what is given, those of float64 but for rounding."""
    wanted = [one for one in inputs if one is not None and one.requires_grad]
    out = ours()
    exact = [
        None if one is None else one.detach().double().requires_grad_(one.requires_grad) for one in inputs
    ]
    expected = reference(*exact)
    gradient = torch.randn_like(out)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert differs(out, expected) < ROUNDING[lower]
    found = torch.autograd.grad(out, wanted, gradient)
    known = torch.autograd.grad(
        expected, [one for one in exact if one is not None and one.requires_grad], gradient.double()
    )
    for a, b, tensor in zip(found, known, wanted, strict=True):
        assert a.dtype == tensor.dtype
        assert a.shape == tensor.shape
        assert differs(a, b) < GRADIENT_ROUNDING[lower]


shapes = st.tuples(st.integers(1, 3), st.sampled_from([16, 32, 48]), st.integers(1, 6), st.integers(1, 6))
cases = given(
    shape=shapes,
    lower=st.sampled_from([torch.float32, torch.bfloat16]),
    fast_half=st.booleans(),
    scale=st.booleans(),
    drop=st.booleans(),
    seed=st.integers(0, 999),
)


def with_both_products(check):
    """Run with products of bfloat16 in bfloat16 and in float32, whatever this processor has."""

    def run(fast_half, **case):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rows, "FAST_BFLOAT16", fast_half)
            check(**case)

    return run


@settings(max_examples=25, deadline=None)
@cases
def test_norm_and_projection_are_those_of_float64(fast_half, **case):
    def check(shape, lower, seed, **_):
        torch.manual_seed(seed)
        c = shape[1]
        inputs = made(*shape, offset=1.0), made(c), made(c), made(32, c, 1, 1), made(32)
        compare(lambda: projection.project(*inputs, lower), inputs, reference_project, lower)

    with_both_products(check)(fast_half, **case)


@settings(max_examples=25, deadline=None)
@cases
def test_the_mlp_branch_is_that_of_float64(fast_half, **case):
    def check(shape, lower, scale, drop, seed):
        torch.manual_seed(seed)
        images, c = shape[:2]
        factor = torch.rand(images) if drop else None
        inputs = (
            *(made(*shape, offset=1.0), factor, made(c) if scale else None, made(c), made(c)),
            *(made(4 * c, c), made(4 * c), made(c, 4 * c), made(c)),
        )
        compare(lambda: mlp.mlp(*inputs, lower, True)[0], inputs, reference_mlp, lower)
        out, hidden = mlp.mlp(*inputs, lower, False)
        assert hidden.numel() == 0
        assert torch.equal(out, mlp.mlp(*inputs, lower, True)[0])

    with_both_products(check)(fast_half, **case)


@settings(max_examples=25, deadline=None)
@cases
def test_gating_is_that_of_float64(fast_half, **case):
    def check(shape, lower, scale, drop, seed):
        torch.manual_seed(seed)
        images, c, *size = shape
        widths = [c, 2 * c, 4 * c][: 1 + seed % 3]
        parameters = [
            one
            for narrow, wide in zip(widths, [*widths[1:], 32], strict=True)
            for one in (made(wide, narrow, 1, 1), made(wide))
        ]
        pq = made(images, c + sum(widths), *size, dtype=lower).detach()
        p, gates = (one.requires_grad_() for one in pq.split((c, sum(widths)), dim=1))  # rows apart
        residual = made(images, 32, *size) if seed % 2 else None
        factor = torch.rand(images) if drop else None
        gamma = made(32) if scale else None
        inputs = p, gates, residual, factor, gamma, *parameters
        compare(
            lambda: gating.gating(p, gates, residual, factor, gamma, parameters, lower),
            inputs,
            reference_gating,
            lower,
        )

    with_both_products(check)(fast_half, **case)


def reference_global_local(x, w, b, kernel, weight, post_w, post_b):
    u, v = norm(x, w, b).chunk(2, dim=1)
    local = F.conv2d(u, kernel, padding=1, groups=len(kernel))
    everywhere = filter_globally(v, weight)
    return norm(torch.stack((local, everywhere), 2).flatten(1, 2), post_w, post_b)


def made_global_local(images, half, height, width, dtype=torch.float32):
    return (
        *(made(images, 2 * half, height, width, offset=1.0, dtype=dtype), made(2 * half), made(2 * half)),
        *(made(half, 1, 3, 3), made(half, height, width // 2 + 1, 2), made(2 * half), made(2 * half)),
    )


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.sampled_from([16, 48]), st.integers(1, 15), st.integers(1, 15)),
    lower=st.sampled_from([torch.float32, torch.bfloat16]),
    held=st.sampled_from([1, 1 << 22]),
    seed=st.integers(0, 999),
)
def test_the_gf_layer_is_that_of_float64(shape, lower, held, seed):
    torch.manual_seed(seed)
    inputs = made_global_local(*shape, dtype=lower)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "hornet_train.models.kernels.global_local_pass.HELD", held
        )  # an image at a time, or all
        compare(lambda: global_local.global_local(*inputs, lower), inputs, reference_global_local, lower)


def test_a_map_or_weight_that_the_loops_are_not_made_for_is_refused():
    x, *others = (one.detach() for one in made_global_local(2, 16, 5, 6))
    with pytest.raises(ValueError, match=r"a filter of \(5, 4\) for a map of \(5, 8\) pixels"):
        global_local.global_local(torch.randn(2, 32, 5, 8), *others, torch.float32)
    with pytest.raises(ValueError, match="16 filters for 34 channels"):
        global_local.global_local(torch.randn(2, 34, 5, 6), *others, torch.float32)
    with pytest.raises(ValueError, match=r"a weight is \(24, 32\): multiples of 16 channels"):
        projection.project(x, *others[:2], torch.randn(24, 32), torch.randn(24), torch.float32)


def sound_arguments(what):
    """Of an operator and its gradient: what they are given, by name, and which of it is what."""
    x, hidden = torch.randn(2, 32, 3, 5), torch.randn(30, 48)
    norms = [torch.ones(32), torch.zeros(32)]
    if what == "project":
        return projection, [x, *norms, torch.randn(48, 32), torch.randn(48)], [torch.randn(2, 48, 3, 5)]
    if what == "mlp":
        layers = [torch.randn(48, 32), torch.randn(48), torch.randn(32, 48), torch.randn(32)]
        return mlp, [x, torch.ones(2), torch.ones(32), *norms, *layers], [hidden, torch.randn(2, 32, 3, 5)]
    if what == "gating":
        chain = [torch.randn(32, 16), torch.randn(32), torch.randn(48, 32), torch.randn(48)]
        maps = [torch.randn(2, 16, 3, 5), torch.randn(2, 48, 3, 5), torch.randn(2, 48, 3, 5)]
        return gating, [*maps, torch.ones(2), torch.ones(48), *chain], [torch.randn(2, 48, 3, 5)]
    filters, kernel = torch.randn(16, 3, 3, 2), torch.randn(16, 1, 3, 3)
    return global_local, [x, *norms, kernel, filters, *norms], [torch.randn(2, 32, 3, 5)]


def called(what, module, arguments, gradient=None, lower=torch.float32):
    if what == "gating":
        arguments = [*arguments[:5], arguments[5:]]
    end = {"mlp": [lower, True], "global_local": [lower]}.get(what, [lower])
    if gradient is None:
        return getattr(module, what)(*arguments, *end)
    end = {"mlp": [lower, *gradient], "global_local": gradient}.get(what, [lower, *gradient])
    return getattr(module, f"{what}_gradient")(*arguments, *end)


@pytest.mark.parametrize("fast", [False, True], ids=["tiles", "pieces"])
@pytest.mark.parametrize("what", ["project", "mlp", "gating", "global_local"])
def test_no_argument_of_another_size_or_dtype_reaches_a_loop(what, fast, monkeypatch):
    """They would read and write past the end of memory."""
    monkeypatch.setattr(rows, "FAST_BFLOAT16", fast)
    lower = torch.bfloat16 if fast else torch.float32
    module, arguments, gradient = sound_arguments(what)
    gradient = [one.to(lower) if one.dim() == 2 else one for one in gradient]
    called(what, module, arguments, lower=lower)
    called(what, module, arguments, gradient, lower=lower)
    for at, one in enumerate(arguments):
        for side in range(one.dim()):
            shape = (*one.shape[:side], one.shape[side] + 16, *one.shape[side + 1 :])
            wrong = [*arguments[:at], torch.randn(shape), *arguments[at + 1 :]]
            if at > 0 or side == 1:  # x may be any map of its channels, but not under this gradient
                with pytest.raises(ValueError, match=r"expected|for a map|channels"):
                    called(what, module, wrong, lower=lower)
            if (what, at) == ("gating", 2):
                continue  # the residual, which the gradient does not read
            with pytest.raises(ValueError, match=r"expected|for a map|channels"):
                called(what, module, wrong, gradient, lower=lower)
    for at in range(len(gradient)):
        wrong = [*gradient]
        wrong[at] = gradient[at][1:]
        with pytest.raises(ValueError, match="expected"):
            called(what, module, arguments, wrong, lower=lower)
    for dtype in (torch.float16, torch.float64):
        with pytest.raises(ValueError, match="expected float32 or bfloat16"):
            called(what, module, [arguments[0].to(dtype), *arguments[1:]], lower=lower)
        with pytest.raises(ValueError, match="expected float32 or bfloat16"):
            called(what, module, arguments, lower=dtype)


@pytest.mark.parametrize("name", ["7x7", "gf"])
@pytest.mark.parametrize("lower", [False, True])
def test_an_empty_batch_passes(name, lower):
    network = model(mixers=name)
    with torch.autocast("cpu", torch.bfloat16, enabled=lower):
        out = network(torch.randn(0, 3, 32, 32))
    out.sum().backward()
    assert out.shape == (0, 5)
    assert all(one.grad is None or not one.grad.any() for one in network.parameters())


def test_replaced_layers_that_do_not_fit_are_an_error():
    x = torch.randn(2, 64, 12, 12)
    for path, layer in (
        ("gnconv.proj_in", PointwiseConv2d(32, 128)),
        ("gnconv.proj_out", PointwiseConv2d(32, 64)),
        ("gnconv.pws.0", PointwiseConv2d(32, 32)),
        ("pwconv1", torch.nn.Linear(64, 128)),
        ("pwconv2", torch.nn.Linear(256, 32)),
        ("norm1", LayerNorm(32)),
        ("norm2", torch.nn.LayerNorm(32, eps=1e-6)),
    ):
        block = Block(64, GnConv(64, order=3))
        block.set_submodule(path, layer)
        with pytest.raises((ValueError, RuntimeError)):
            block(x)
    block = Block(64, GnConv(64, order=3), layer_scale_init=1.0)
    block.norm2 = torch.nn.LayerNorm([12, 12, 64], eps=1e-6)  # over whole maps
    found = block(x)
    use_kernels(block, "plain")
    torch.testing.assert_close(found, block(x), rtol=1e-4, atol=1e-5)


def operators(lower=torch.float32):
    """Each operator with its inputs and the formula."""
    torch.manual_seed(0)
    c = 16
    x, w, b = made(2, c, 3, 5, offset=1.0), made(c), made(c)
    weights = made(64, c), made(64), made(c, 64), made(c)
    chain = [made(32, c, 1, 1), made(32), made(c, 32, 1, 1), made(c)]
    p, gates, residual = made(2, c, 3, 5), made(2, 48, 3, 5), made(2, c, 3, 5)
    gamma, factor = made(c), torch.rand(2)
    return (
        (lambda *t: projection.project(*t, lower), (x, w, b, weights[0], weights[1]), reference_project),
        (
            lambda *t: mlp.mlp(*t, lower, True)[0],
            (x, factor, gamma, w, b, *weights),
            reference_mlp,
        ),
        (
            lambda p, g, r, f, s, *c: gating.gating(p, g, r, f, s, list(c), lower),
            (p, gates, residual, factor, gamma, *chain),
            reference_gating,
        ),
        (
            lambda *t: global_local.global_local(*t, lower),
            made_global_local(2, 16, 3, 4),
            reference_global_local,
        ),
    )


def test_second_derivatives_are_those_of_float64():
    def second(function, inputs):
        inputs = [one.detach().clone().requires_grad_(one.requires_grad) for one in inputs]
        wanted = [one for one in inputs if one.requires_grad]
        first = torch.autograd.grad(function(*inputs).pow(3).sum(), wanted, create_graph=True)
        return torch.autograd.grad(sum(one.square().sum() for one in first), wanted, allow_unused=True)

    for function, inputs, reference in operators():
        ours = second(function, inputs)
        known = second(reference, [one.detach().double().requires_grad_(one.requires_grad) for one in inputs])
        assert all(differs(a, b) < 1e-4 for a, b in zip(ours, known, strict=True))


def test_torch_finds_nothing_wrong_with_the_operators():
    (_, first, _), (_, second, _), (_, third, _), (_, fourth, _) = operators()
    p, gates, residual, factor, gamma, *chain = third

    def detached(tensors):
        return [one.detach() for one in tensors]

    hidden, above = torch.randn(30, 64), torch.randn(2, 16, 3, 5)
    for operator, arguments in (
        (projection.project, (*first, torch.float32)),
        (projection.project_gradient, (*detached(first), torch.float32, torch.randn(2, 64, 3, 5))),
        (mlp.mlp, (*second, torch.float32, True)),
        (mlp.mlp_gradient, (*detached(second), torch.float32, hidden, above)),
        (gating.gating, (p, gates, residual, factor, gamma, chain, torch.float32)),
        (
            gating.gating_gradient,
            (*detached((p, gates)), None, *detached((factor, gamma)), detached(chain), torch.float32, above),
        ),
        (global_local.global_local, (*fourth, torch.float32)),
        (global_local.global_local_gradient, (*detached(fourth), torch.randn(2, 32, 3, 4))),
    ):
        found = torch.library.opcheck(operator, arguments)
        assert set(found.values()) == {"SUCCESS"}


def test_gelu_is_torchs_where_it_is_large_small_and_no_number():
    x = torch.cat((torch.linspace(-40, 40, 60_000), torch.randn(4_000) * 1e-3)).view(-1, 64)
    ours = rowwise.gelu(x, torch.zeros(64), None, torch.empty_like(x))
    exact = x.double() * torch.special.ndtr(x.double())
    assert ((ours - exact).abs() <= 2e-7 * x.abs().clamp_min(1e-3)).all()
    slope = torch.ones_like(x)
    total = rowwise.gelu_gradient_(x, slope, torch.empty_like(x))
    density = torch.exp(-x.double().square() / 2) / (2 * torch.pi) ** 0.5
    known = torch.special.ndtr(x.double()) + x.double() * density
    assert (slope - known).abs().max() < 1e-6
    torch.testing.assert_close(total.double(), known.sum(0), rtol=1e-5, atol=1e-4)
    odd = torch.tensor([float("nan"), float("inf"), -float("inf"), 1e30] * 16).view(1, 64)
    ours = rowwise.gelu(odd, torch.zeros(64), None, torch.empty_like(odd))[0, :4]
    assert ours[0].isnan()
    assert ours[1] == float("inf")
    assert ours[2] == 0
    assert ours[3] == 1e30


KINDS = ((torch.float32, False), (torch.bfloat16, True))


def results_of_all_operators(kinds=KINDS):
    """Outputs and gradients of every operator, in float32 and with products in bfloat16."""
    found = []
    for lower, fast_half in kinds:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rows, "FAST_BFLOAT16", fast_half)
            for function, inputs, _ in operators(lower):
                out = function(*inputs)
                wanted = [one for one in inputs if one.requires_grad]
                found += [out, *torch.autograd.grad(out, wanted, torch.ones_like(out))]
    return [one.detach() for one in found]


def test_results_do_not_depend_on_the_number_of_threads():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = results_of_all_operators()
        torch.set_num_threads(5)
        together = results_of_all_operators()
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(alone, together, strict=True))


def test_results_do_not_depend_on_the_default_dtype():
    cases = [(function, inputs) for function, inputs, _ in operators()]
    known = [
        torch.autograd.grad(f(*inputs).sum(), [t for t in inputs if t.requires_grad]) for f, inputs in cases
    ]
    torch.set_default_dtype(torch.float64)
    try:
        found = [
            torch.autograd.grad(f(*inputs).sum(), [t for t in inputs if t.requires_grad])
            for f, inputs in cases
        ]
    finally:
        torch.set_default_dtype(torch.float32)
    for ours, theirs in zip(found, known, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


OTHER_WIDTH = """
import sys, llvmlite.binding, torch
known = llvmlite.binding.get_host_cpu_features
has_wide = known().get("avx512f", False)
llvmlite.binding.get_host_cpu_features = lambda: {**known(), "avx512f": not has_wide}
from hornet_train.models.kernels import instructions, product_vectors
llvmlite.binding.get_host_cpu_features = known
assert instructions.WIDTH == (8 if has_wide else 16)
product_vectors.X86 = has_wide  # registers of AVX-512 cannot be named where there are none
from test_row_kernels import results_of_all_operators
torch.save(results_of_all_operators([(torch.float32, False)]), sys.argv[1])
"""


@pytest.mark.long
def test_tiles_for_other_registers_give_the_same(tmp_path):
    """Those of AVX-512, split by the compiler where the processor has none; those of AVX2 where it has."""
    script, out = tmp_path / "other.py", tmp_path / "results.pt"
    script.write_text(OTHER_WIDTH)
    here = Path(__file__).parent
    paths = os.pathsep.join((str(here), str(here.parent / "support"), os.environ.get("PYTHONPATH", "")))
    environment = {**os.environ, "PYTHONPATH": paths, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, str(script), str(out)], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for other, ours in zip(torch.load(out), results_of_all_operators(KINDS[:1]), strict=True):
        assert differs(other, ours.double()) < GRADIENT_ROUNDING[torch.float32]


EVERY_LOOP = """
import importlib, inspect, pkgutil
from typing import get_type_hints
from hornet_train.models import kernels
from hornet_train.models.kernels.instructions import WIDTH

def simplest(kind):
    if kind is int:
        return 7  # taps
    return False if kind is bool else kind(*map(simplest, get_type_hints(kind).values()))

found = 0
for module in pkgutil.iter_modules(kernels.__path__):
    if module.name.endswith("_loops"):
        members = vars(importlib.import_module(f"{kernels.__name__}.{module.name}"))
        for name, loop in members.items():
            if hasattr(loop, "cache_info") and loop.__module__.endswith(module.name):
                hints = {key: kind for key, kind in get_type_hints(loop).items() if key != "return"}
                assert loop(*map(simplest, hints.values()))
                found += 1
print(WIDTH, found)
"""
AVX2 = "+avx2,+fma,+f16c,+bmi,+bmi2"
PROCESSORS = {
    8: ("haswell", AVX2),
    16: ("skylake-avx512", f"{AVX2},+avx512f,+avx512bw,+avx512cd,+avx512dq,+avx512vl"),
}


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="compiles for x86 alone")
def test_every_loop_compiles_for_processors_of_the_other_width(tmp_path):
    """They are not run: this processor may not have their instructions."""
    other = 24 - WIDTH
    processor, features = PROCESSORS[other]
    told = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": features, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", EVERY_LOOP], env={**os.environ, **told}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    width, loops = map(int, done.stdout.split())
    assert width == other
    assert loops >= 22


def model(**options):
    torch.manual_seed(0)
    given = {"layer_scale_init": 0.5, "drop_path_rate": 0.4, "orders": (2, 3), "dim": 32, **options}
    return HorNet(num_classes=5, depths=(1, 2), img_size=32, **given)


def gradients(network, x, *, lower=False):
    network.zero_grad()
    torch.manual_seed(1)  # drop path
    with torch.autocast("cpu", torch.bfloat16, enabled=lower):
        out = network(x)
    out.float().square().sum().backward()
    return {name: one.grad.clone() for name, one in network.named_parameters()}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mixers": "gf"},
        {"layer_scale_init": 0.0},
        {"drop_path_rate": 0.0, "orders": (1, 2)},
        {"gating": "se"},
    ],
    ids=str,
)
def test_a_model_has_the_gradients_of_plain_layers(options, monkeypatch):
    network, x = model(**options), torch.randn(3, 3, 32, 32)
    called = []
    operator = mlp.mlp
    monkeypatch.setattr(
        "hornet_train.models.kernels.dispatch.mlp.mlp", lambda *a: called.append(1) or operator(*a)
    )
    fast, lower = gradients(network, x), gradients(network, x, lower=True)
    assert len(called) == 6
    use_kernels(network, "plain")
    plain, plain_lower = gradients(network, x), gradients(network, x, lower=True)
    assert len(called) == 6
    for name, known in plain.items():
        torch.testing.assert_close(fast[name], known, rtol=1e-3, atol=2e-5 * known.abs().max().item() + 1e-9)
        far = differs(plain_lower[name], known.double())
        assert differs(lower[name], known.double()) < max(0.02, 2 * far)


def test_a_small_branch_is_not_lost_in_bfloat16():
    """Layer scale starts at 1e-6: a residual sum in bfloat16 would stay as it was."""
    block, x = Block(32, GnConv(32, order=2)), torch.ones(2, 32, 5, 4, dtype=torch.bfloat16)
    with torch.no_grad():
        block.pwconv2.bias.fill_(1.0)
        block.gnconv.proj_out.bias.fill_(1.0)
        with torch.autocast("cpu", torch.bfloat16):
            out = block(x)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, 1 + 2e-6 + torch.zeros_like(out), rtol=0, atol=2e-7)


def test_layers_that_are_watched_or_replaced_run_one_by_one():
    block, x = Block(32, GnConv(32, order=2, scale=0.5), layer_scale_init=0.5), torch.randn(2, 32, 5, 4)
    expected = block(x)
    for name in (
        "norm1",
        "gnconv",
        "gnconv.proj_in",
        "gnconv.pws.0",
        "gnconv.proj_out",
        "norm2",
        "pwconv1",
        "act",
        "pwconv2",
    ):
        seen = []
        hook = block.get_submodule(name).register_forward_hook(lambda *_, seen=seen: seen.append(1))
        torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-5)
        hook.remove()
        assert seen == [1], name
    changed = copy.deepcopy(block)
    changed.act = torch.nn.ReLU()
    changed.norm1.eps = 1.0
    assert not torch.allclose(changed(x), expected, atol=1e-3)
    halves = torch.nn.utils.parametrizations.weight_norm(copy.deepcopy(block).pwconv1)
    changed = copy.deepcopy(block)
    changed.pwconv1 = halves
    torch.testing.assert_close(changed(x), expected, rtol=1e-4, atol=1e-5)


class Means(torch.nn.Module):
    """A mixer whose gates are no map: they broadcast over one."""

    def forward(self, q):
        return q.mean((2, 3), keepdim=True).sigmoid()


@pytest.mark.parametrize("standing", ["alone", "block"])
def test_gates_of_another_extent_or_dtype_go_through_plain_layers(standing):
    torch.manual_seed(0)
    x = torch.randn(2, 32, 33, 35)
    network = GnConv(32, order=2, mixer=lambda _: Means())
    network = Block(32, network) if standing == "block" else network
    found, known = gradients(network, x), None
    use_kernels(network, "plain")
    known = gradients(network, x)
    for name, one in known.items():
        torch.testing.assert_close(found[name], one, rtol=1e-3, atol=1e-5 * one.abs().max().item() + 1e-9)
    with pytest.raises(ValueError, match=r"gates is \(2, 16, 2, 35\), expected \(2, 16, 33, 35\)"):
        gating.gating(x[:, :16], x[:, :16, :2], None, None, None, [made(8, 16), made(8)], torch.float32)
    with pytest.raises(ValueError, match=r"gates is torch.float64"):
        gating.gating(x[:, :16], x[:, :16].double(), None, None, None, [made(8, 16), made(8)], torch.float32)


def test_replaced_layers_keep_their_meaning():
    block, x = Block(32, GnConv(32, order=2), layer_scale_init=0.5), torch.randn(2, 32, 5, 4)

    def agree(changed):
        out = changed(x)
        use_kernels(changed, "plain")
        torch.testing.assert_close(out, changed(x), rtol=1e-5, atol=1e-6)

    changed = copy.deepcopy(block)
    changed.norm2 = torch.nn.LayerNorm(32, eps=1e-6, bias=False)
    torch.nn.init.constant_(changed.norm2.weight, 3.0)
    agree(changed)
    changed = copy.deepcopy(block)
    changed.act = torch.nn.GELU("tanh")
    agree(changed)
    for name in ("pwconv1", "pwconv2", "gnconv.proj_in", "gnconv.proj_out", "gnconv.pws.0"):
        changed = copy.deepcopy(block)
        changed.get_submodule(name).register_parameter("bias", None)
        agree(changed)
    seen = []
    block.gnconv.register_full_backward_pre_hook(lambda *_: seen.append(1))
    block(x).sum().backward()
    assert seen == [1]


def test_transforms_of_torch_func_go_through_plain_layers():
    block, x = Block(32, GnConv(32, order=2, scale=0.5), layer_scale_init=0.5), torch.randn(2, 32, 5, 4)
    plain = copy.deepcopy(block)
    use_kernels(plain, "plain")
    results = []
    for one in (block, plain):
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, x)
            tangent = torch.autograd.forward_ad.unpack_dual(one(dual)).tangent
        weights = dict(one.named_parameters())

        def mean(weights, one=one):
            return torch.func.functional_call(one, weights, (x,)).mean()

        results.append(
            (
                tangent,
                torch.func.jvp(one, (x,), (x,))[1],
                torch.vmap(lambda z, one=one: one(z[None])[0])(x),
                torch.func.grad(mean)(weights)["gamma1"],
            )
        )
    assert results[0][0].abs().max() > 0.1
    for ours, known in zip(*results, strict=True):
        torch.testing.assert_close(ours, known)


def test_a_compiled_bfloat16_model_trains():
    few = {"drop_path_rate": 0.0, "orders": (2, 1)}
    network, x = model(**few).bfloat16(), torch.randn(3, 3, 32, 32).bfloat16()
    compiled = torch.compile(network)
    compiled(x).float().square().sum().backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in network.parameters())


def test_drop_path_has_exact_factors_for_bfloat16_maps():
    block = Block(32, GnConv(32, order=2), drop_path=0.1).train()
    factor = block.drop_factor(torch.zeros(64, 32, 1, 1, dtype=torch.bfloat16))
    torch.testing.assert_close(factor.max(), torch.tensor(1 / 0.9))


@pytest.mark.parametrize("dim", [24, 32])
@pytest.mark.parametrize("layer_scale_init", [0.0, 0.5])
@pytest.mark.parametrize("autocast", [False, True])
def test_drop_path_leaves_a_bfloat16_model_in_bfloat16(dim, layer_scale_init, autocast):
    """As sharded training has it: the operators take 32 channels, and torch's own the rest."""
    network = model(dim=dim, layer_scale_init=layer_scale_init, drop_path_rate=0.5).bfloat16()
    x, found = torch.randn(4, 3, 32, 32).bfloat16(), []
    for kernels in ("plain", "auto"):
        use_kernels(network, kernels)
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found.append(network.forward_features(x))
            found[-1].float().square().mean().backward()
    assert [one.dtype for one in found] == [torch.bfloat16] * 2
    assert differs(found[1], found[0].double()) < 0.05


@pytest.mark.parametrize("around", ["compile", "stage", "fuse", "bfloat16"])
def test_a_model_is_the_plain_one_under_what_is_put_around(around):
    network, x = model(), torch.randn(3, 3, 32, 32)
    use_kernels(network, "plain")
    if around in ("fuse", "bfloat16"):
        network.eval()
        known = network(x)
        use_kernels(network, "auto")
        if around == "fuse":
            torch.testing.assert_close(network.fuse()(x), known, rtol=1e-4, atol=1e-5)
        else:
            assert differs(network.bfloat16()(x.bfloat16()), known.double()) < 0.05
        return
    known = gradients(network, x)
    use_kernels(network, "auto")
    if around == "stage":
        network.set_grad_checkpointing()
    else:
        network.drop_path_rate = 0
        for module in network.modules():
            if isinstance(module, Block):
                module.drop_path = torch.nn.Identity()
        use_kernels(network, "plain")
        known = gradients(network, x)
        use_kernels(network, "auto")
        network.compile(fullgraph=True, dynamic=False)
    for name, found in gradients(network, x).items():
        torch.testing.assert_close(
            found, known[name], rtol=1e-3, atol=2e-5 * known[name].abs().max().item() + 1e-9
        )


def test_the_dtype_of_products_goes_by_the_processor(monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    for amx, half, vendor, fast in (
        (True, True, "GenuineIntel", True),
        (False, True, "GenuineIntel", False),
        (False, False, "AuthenticAMD", False),
        (False, True, "AuthenticAMD", True),
    ):
        monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda amx=amx: amx)
        monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda half=half: half)
        monkeypatch.setattr(
            "pathlib.Path.read_text", lambda _, encoding, vendor=vendor: f"vendor_id: {vendor} {encoding}"
        )
        assert rows._fast_bfloat16() == fast
    for fast in (True, False):
        monkeypatch.setattr(rows, "FAST_BFLOAT16", fast)
        assert rows.product_dtype(torch.bfloat16) == (torch.bfloat16 if fast else torch.float32)
        assert rows.product_dtype(torch.float32) == torch.float32


RANKS = """
import copy, torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from hornet_train.models.hornet import HorNet
from hornet_train.models.kernels import rows

rows.SMALLEST = 0
dist.init_process_group("gloo")
torch.manual_seed(0)
model = HorNet(num_classes=5, depths=(1, 2), dim=32, img_size=32, orders=(2, 3), layer_scale_init=0.5)
x, rank, alone = torch.randn(4, 3, 32, 32), dist.get_rank(), copy.deepcopy(model)
network = DistributedDataParallel(model)
network(x[2 * rank : 2 * rank + 2]).square().mean().backward()
alone(x).square().mean().backward()
for one, other in zip(model.parameters(), alone.parameters(), strict=True):
    margin = 2e-5 * other.grad.abs().max().item() + 1e-9
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=margin)
dist.destroy_process_group()
"""


def test_two_ranks_have_the_gradients_of_one(tmp_path):
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    done = torchrun(2, str(script))
    assert done.returncode == 0, done.stderr
