"""Blocks compiled once for each kind of map, and the training steps made of them."""

import copy
from functools import partial

import pytest
import timm
import torch
from helpers import TINY, events, torchrun
from torch._dynamo.utils import counters

import hornet_train
from hornet_train.errors import ConfigError
from hornet_train.models import compiled_block
from hornet_train.models.compiled_block import compile_blocks
from hornet_train.models.hornet import HorNet
from hornet_train.models.kernels.dispatch import use_kernels
from hornet_train.models.structure import blocks_of, smallest_blocks


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
        torch.testing.assert_close(
            torch.jit.trace(network, x, check_trace=False)(x), known, rtol=1e-4, atol=1e-5
        )
        assert graphs() == 0
        whole = torch.compile(network, fullgraph=True, dynamic=False)
        torch.testing.assert_close(whole(x), known, rtol=1e-4, atol=1e-5)
        assert graphs() == 1


def test_blocks_of_other_models_are_compiled_too(monkeypatch):
    # as `Module.compile` calls it
    monkeypatch.setattr(torch.nn.modules.module.torch, "compile", partial(torch.compile, backend="aot_eager"))
    network, x = timm.create_model("convnext_atto", num_classes=5), torch.randn(2, 3, 64, 64)
    known, depth = gradients(network, x), sum(len(stage.blocks) for stage in network.stages)
    assert compile_blocks(smallest_blocks(network)) == depth
    agree(gradients(network, x), known)
    assert graphs() == 4  # one for each stage, whose blocks are alike


RANKS = """
import copy, sys, torch, torch.distributed as dist
from functools import partial
from torch.nn.parallel import DistributedDataParallel
from hornet_train.engine.sharding import full_tensor, shard
import hornet_train
from hornet_train.errors import ConfigError
from hornet_train.models import compiled_block
from hornet_train.models.hornet import HorNet
from hornet_train.models.structure import blocks_of, smallest_blocks

compiled_block.torch.compile = partial(torch.compile, backend="aot_eager")
dist.init_process_group("gloo")
torch.manual_seed(0)
model = HorNet(num_classes=5, depths=(1, 2), dim=32, img_size=32, orders=(2, 3), layer_scale_init=0.5)
x, rank, alone = torch.randn(4, 3, 32, 32), dist.get_rank(), copy.deepcopy(model)
if sys.argv[1] == "fsdp":
    shard(model, blocks_of(model))
assert compiled_block.compile_blocks(blocks_of(model)) == 3
network = model if sys.argv[1] == "fsdp" else DistributedDataParallel(model)
network(x[2 * rank : 2 * rank + 2]).square().mean().backward()
alone(x).square().mean().backward()
for one, other in zip(model.parameters(), alone.parameters(), strict=True):
    margin = 2e-5 * other.grad.abs().max().item() + 1e-9
    torch.testing.assert_close(full_tensor(one.grad), other.grad, rtol=1e-3, atol=margin)
from torch._dynamo.utils import counters
assert counters["stats"]["unique_graphs"] == 2, counters["stats"]
dist.destroy_process_group()
"""


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_ranks_have_the_gradients_of_one(strategy, tmp_path):
    script = tmp_path / "ranks.py"
    script.write_text(RANKS)
    done = torchrun(2, str(script), strategy)
    assert done.returncode == 0, done.stderr


@pytest.mark.long
def test_a_run_is_that_of_blocks_that_are_not_compiled(tmp_path):
    """With averaged weights and evaluations, and after a restart."""
    few = ["model.args.depths=[1,1,2,1]", "model.drop_path=0.2", "eval.every=2it", "checkpoint.every=2it"]
    known = hornet_train.train([*TINY, *few, "epochs=4it", f"run_dir={tmp_path}/known"])
    blocks = [*TINY, *few, "compile=blocks", f"run_dir={tmp_path}/blocks"]
    hornet_train.train([*blocks, "epochs=2it"])
    before = graphs()
    assert before > 0
    hornet_train.train([*blocks, "epochs=4it", "resume=force"])
    assert known.step == 4
    for kind in ("train", "eval"):
        ours, theirs = (events(tmp_path / name, kind) for name in ("blocks", "known"))
        assert [event["step"] for event in ours] == [event["step"] for event in theirs]
        for event, other in zip(ours, theirs, strict=True):
            assert event["loss"] == pytest.approx(other["loss"], rel=1e-4)


def test_a_model_without_blocks_is_refused(tmp_path):
    plain = ["model=timm", "model.name=test_vit", "model.args.depth=1", "compile=blocks"]
    with pytest.raises(ConfigError, match="compile=blocks: test_vit repeats no block; compile=true"):
        hornet_train.train([*TINY, *plain, f"run_dir={tmp_path}/run"])
