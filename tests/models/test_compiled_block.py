"""Blocks compiled once for each kind of map, and the training steps made of them."""

import copy
from functools import partial

import pytest
import timm
import torch
from torch._dynamo.utils import counters

from hornet_train.models import compiled_block
from hornet_train.models.compiled_block import compile_blocks
from hornet_train.models.hornet import HorNet
from hornet_train.models.kernels.dispatch import use_kernels
from hornet_train.models.structure import blocks_of


@pytest.fixture(autouse=True)
def traced(monkeypatch):
    """The compiler's front, without code for the processor: what is compiled how often is decided there."""
    monkeypatch.setattr(compiled_block.torch, "compile", partial(torch.compile, backend="aot_eager"))
    compiled_block.compiled_branches.cache_clear()
    counters.clear()
    yield
    compiled_block.compiled_branches.cache_clear()


def graphs():
    return counters["stats"]["unique_graphs"]


def model(**options):
    torch.manual_seed(0)
    given = {"layer_scale_init": 0.5, "drop_path_rate": 0.4, "orders": (2, 3), **options}
    return HorNet(num_classes=5, depths=(3, 4), dim=32, img_size=32, **given)


def gradients(network, x):
    network.zero_grad()
    torch.manual_seed(1)  # drop path
    network(x).square().sum().backward()
    return {name: one.grad.clone() for name, one in network.named_parameters()}


def agree(found, known):
    for name, one in known.items():
        torch.testing.assert_close(found[name], one, rtol=1e-3, atol=2e-5 * one.abs().max().item() + 1e-9)


@pytest.mark.parametrize("kernels", ["auto", "plain"])
@pytest.mark.parametrize("options", [{}, {"mixers": "gf"}, {"layer_scale_init": 0.0}], ids=str)
def test_each_stage_is_compiled_once_and_computes_the_same(options, kernels):
    network, x = model(**options), torch.randn(4, 3, 32, 32)
    use_kernels(network, kernels)
    known = gradients(network, x)
    names = list(network.state_dict())
    assert compile_blocks(blocks_of(network)) == 7
    agree(gradients(network, x), known)
    assert (
        graphs() == 3
    )  # of the first block, which drops nothing, of its stage's others, and of the second's
    agree(gradients(network, x), known)
    assert list(network.state_dict()) == names
    average = copy.deepcopy(network).eval()  # as averaged weights are evaluated
    plain = copy.deepcopy(average)
    for block in blocks_of(plain):
        block.compiled = False
    with torch.no_grad():
        torch.testing.assert_close(average(x), plain(x), rtol=1e-4, atol=1e-5)
    assert graphs() == 5
    network.set_grad_checkpointing()
    agree(gradients(network.train(), x), known)
    assert graphs() == 5


def test_what_is_recorded_or_compiled_as_a_whole_has_plain_blocks():
    network, x = model(drop_path_rate=0.0).eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        known = network(x)
        compile_blocks(blocks_of(network))
        torch.testing.assert_close(torch.jit.trace(network, x)(x), known, rtol=1e-4, atol=1e-5)
        assert graphs() == 0
        whole = torch.compile(network, fullgraph=True, dynamic=False)
        torch.testing.assert_close(whole(x), known, rtol=1e-4, atol=1e-5)
        assert graphs() == 1


def test_blocks_of_other_models_are_compiled_too():
    network, x = timm.create_model("convnext_atto", num_classes=5), torch.randn(2, 3, 64, 64)
    known = gradients(network, x)
    assert compile_blocks(blocks_of(network)) > 4
    for block in blocks_of(network):
        block.compile(dynamic=False, backend="aot_eager")
    agree(gradients(network, x), known)
    assert graphs() > 0
