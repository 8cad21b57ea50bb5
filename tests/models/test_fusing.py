"""A fused model against the one that it was."""

import copy

import pytest
import torch

from hornet_train.models.fusing import fuse_block_
from hornet_train.models.global_filter import GlobalLocalFilter
from hornet_train.models.hornet import HorNet
from hornet_train.models.kernels.dispatch import use_kernels


def randomised(**options):
    """No weight, bias or scale at its initial value, so that one left out shows."""
    torch.manual_seed(0)
    given = {
        "num_classes": 7,
        "depths": (1, 2),
        "dim": 16,
        "orders": (2, 3),
        "img_size": 32,
        "stem_stride": 4,
    }
    model = HorNet(**{**given, **options}).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            offset = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.copy_(offset + 0.3 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mixers": "gf"},
        {"mixers": ("7x7", "gf"), "img_size": (32, 48), "scale": 1.0},
        {"mixers": "pool"},
        {"gating": "se"},
        {"gating": "none", "mixers": "gf"},
        {"isotropic": True},
        {"layer_scale_init": 0.0, "num_classes": 0},
        {"output_norms": True, "global_pool": ""},
    ],
    ids=str,
)
def test_outputs_are_the_same_but_for_rounding(options):
    model = randomised(**options)
    size = model.img_size
    images = [torch.randn(2, 3, *size, dtype=torch.float64), torch.randn(1, 3, 64, 32, dtype=torch.float64)]
    before = [model(x) for x in images], [model.forward_intermediates(x, norm=True) for x in images]
    assert model.fuse() is model
    assert not model.training
    after = [model(x) for x in images], [model.forward_intermediates(x, norm=True) for x in images]
    torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-10)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    names = [name for name, _ in model.named_parameters()]
    assert not any("gamma" in name for name in names)
    if options.get("gating") != "none" and not options.get("isotropic"):
        assert not any(".norm1." in name or ".norm2." in name for name in names)
    again = model(images[0])
    torch.testing.assert_close(model.fuse()(images[0]), again, rtol=1e-12, atol=1e-12)  # twice is once


def test_layout_dtype_and_copies_are_kept():
    model = randomised(mixers=("7x7", "gf")).float().to(memory_format=torch.channels_last)
    x = torch.randn(3, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    expected = model(x)
    fused = copy.deepcopy(model).fuse()
    torch.testing.assert_close(fused(x), expected, rtol=1e-4, atol=1e-5)
    assert {parameter.dtype for parameter in fused.parameters()} == {torch.float32}
    weight = fused.downsample_layers[1][1].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(copy.deepcopy(fused)(x), fused(x))
    assert model.stages[0][0].gamma1 is not None
    scripted = torch.jit.script(fused)
    torch.testing.assert_close(scripted(x), fused(x), rtol=1e-4, atol=1e-5)


def test_a_fused_filter_computes_its_matrices_once(monkeypatch):
    model = randomised(mixers="gf").float()
    x = torch.randn(1, 3, 32, 32)
    expected = model(x)
    model.fuse()
    monkeypatch.setattr("hornet_train.models.kernels.fourier.fourier_matrices", None)
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    traced = torch.fx.symbolic_trace(model)  # which has the FFT
    torch.testing.assert_close(traced(x), expected, rtol=1e-4, atol=1e-5)
    filters = [module for module in model.modules() if isinstance(module, GlobalLocalFilter)]
    assert [one.fixed.size for one in filters] == [(8, 8), (4, 4), (4, 4)]


def test_a_fused_model_of_plain_kernels_or_another_precision_has_no_matrices(monkeypatch):
    model, x = randomised(mixers="gf").float(), torch.randn(1, 3, 32, 32)
    expected = model(x)
    model.fuse()
    monkeypatch.setattr("hornet_train.models.kernels.fourier._filtered", None)
    with pytest.raises(TypeError):
        model(x)
    use_kernels(model, "plain")
    torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    monkeypatch.undo()
    use_kernels(model, "auto")
    lower = model.bfloat16()(x.bfloat16()).float()  # the matrices were cast too, and are not used
    assert torch.linalg.vector_norm(lower - expected) < 0.1 * torch.linalg.vector_norm(expected)


def test_a_filter_too_large_for_matrices_is_stored_for_its_size():
    model = randomised(mixers="gf", depths=(1,), orders=(2,), stem_stride=2, img_size=32).float()
    x = torch.randn(1, 3, 64, 64)  # maps of 32 x 32
    expected = model(x)
    torch.testing.assert_close(model.fuse(64)(x), expected, rtol=1e-4, atol=1e-5)
    (only,) = [module for module in model.modules() if isinstance(module, GlobalLocalFilter)]
    assert only.fixed is None
    assert only.complex_weight.shape[1:3] == (32, 17)


def test_a_block_alone_can_be_fused():
    block = randomised().stages[1][0]
    x = torch.randn(2, 32, 5, 6, dtype=torch.float64)
    expected = block(x)
    fuse_block_(block)
    torch.testing.assert_close(block(x), expected)
