"""1x1 and patch convolutions in bfloat16, on processors that multiply slowly in it and on others."""

import copy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hornet_train.models.kernels import rows
from hornet_train.models.layers import PatchConv2d, PointwiseConv2d

PRODUCTS = ("convolution", "convolution_backward", "mm", "addmm", "bmm")


class Dtypes(TorchDispatchMode):
    """Notes in which dtypes matrices are multiplied."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in PRODUCTS:
            self.seen |= {one.dtype for one in args if isinstance(one, torch.Tensor)}
        return func(*args, **(kwargs or {}))


def differs(ours, reference):
    return ((ours.double() - reference).norm() / reference.norm()).item()


@pytest.mark.parametrize("fast", [False, True], ids=["slow", "fast"])
@pytest.mark.parametrize("autocast", [False, True], ids=["pure", "autocast"])
@pytest.mark.parametrize(
    "layer",
    [PatchConv2d(3, 16, 4), PatchConv2d(24, 40, 2), PointwiseConv2d(24, 40)],
    ids=lambda one: str(one),
)
def test_they_multiply_as_the_processor_does_it_fast(monkeypatch, layer, autocast, fast):
    monkeypatch.setattr(rows, "FAST_BFLOAT16", fast)
    torch.manual_seed(0)
    layer, exact = copy.deepcopy(layer), copy.deepcopy(layer).double()
    x = torch.randn(3, layer.in_channels, 9, 13)  # of which the last row and columns make no patch
    if not autocast:
        layer, x = layer.bfloat16(), x.bfloat16()
        exact.load_state_dict(layer.state_dict())
    x.requires_grad_()
    reference = x.detach().double().requires_grad_()
    with Dtypes() as found:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = layer(x)
        gradient = torch.randn_like(out)
        out.backward(gradient)
    assert found.seen == {torch.bfloat16 if fast else torch.float32}
    expected = exact(reference)
    expected.backward(gradient.double())
    assert out.dtype == torch.bfloat16
    assert out.shape == expected.shape
    assert differs(out, expected) < 5e-3
    assert differs(x.grad, reference.grad) < 1e-2
    for ours, theirs in zip(layer.parameters(), exact.parameters(), strict=True):
        assert ours.grad.dtype == ours.dtype
        assert differs(ours.grad, theirs.grad) < 1e-2


@pytest.mark.parametrize("layer", [PatchConv2d(3, 16, 4), PointwiseConv2d(3, 16)], ids=lambda one: str(one))
def test_plain_is_torchs(monkeypatch, layer):
    monkeypatch.setattr(rows, "FAST_BFLOAT16", False)
    layer = copy.deepcopy(layer).bfloat16()
    layer.plain, x = True, torch.randn(2, 3, 8, 8).bfloat16()
    assert torch.equal(layer(x), torch.nn.functional.conv2d(x, layer.weight, layer.bias, layer.stride))
