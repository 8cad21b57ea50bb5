"""What a trainer asks of a HorNet, of timm's other models, and of a network that holds a HorNet."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import Tensor, nn

from hornet_train.models import HorNet, structure
from hornet_train.models.block import Block
from hornet_train.optim.groups import parameter_groups

TIMM = ("resnet18", "convnext_atto", "vit_tiny_patch16_224")


class Segmenter(nn.Module):
    """A HorNet under a head of its own, with names that look like the backbone's outside of it."""

    def __init__(self, name: str = "hornet_pico_gf") -> None:
        super().__init__()
        self.backbone = timm.create_model(
            name, num_classes=0, global_pool="", depths=(1, 2, 6, 1), img_size=(32, 48)
        )
        self.stages = nn.ModuleList([nn.Sequential(nn.Conv2d(128, 128, 1), nn.ReLU()) for _ in range(2)])
        self.classifier = nn.Conv2d(128, 5, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.backbone.forward_features(x_BCHW)
        for stage in self.stages:
            x_BCHW = stage(x_BCHW)
        out: Tensor = self.classifier(x_BCHW)
        return out


@pytest.fixture
def segmenter() -> Segmenter:
    return Segmenter()


@pytest.fixture
def hornet() -> HorNet:
    return timm.create_model("hornet_pico_gf", num_classes=10)


@pytest.fixture(params=TIMM)
def other(request: pytest.FixtureRequest) -> nn.Module:
    return timm.create_model(request.param, num_classes=10)


def test_the_backbone_is_found_wherever_it_is(hornet, segmenter, other):
    assert structure.backbone_of(hornet) is hornet
    assert structure.backbone_of(segmenter) is segmenter.backbone
    assert structure.backbone_of(nn.ModuleDict({"network": segmenter})) is segmenter.backbone
    features = timm.create_model("hornet_pico_7x7", features_only=True)
    assert structure.backbone_of(features) is features.model
    assert structure.backbone_of(other) is None
    with pytest.raises(ValueError, match="holds 2 HorNets: 0, 1"):
        structure.backbone_of(nn.ModuleList([hornet, copy.deepcopy(hornet)]))


def test_blocks_are_those_of_the_backbone_and_of_the_lists_around_it(hornet, segmenter):
    assert structure.blocks_of(hornet) == [block for stage in hornet.stages for block in stage]
    found = structure.blocks_of(segmenter)
    assert [type(one) for one in found] == [Block] * 10 + [nn.Sequential] * 2
    assert found[10:] == list(segmenter.stages)
    twins = nn.ModuleList([hornet, copy.deepcopy(hornet)])
    assert {type(one) for one in structure.blocks_of(twins)} == {Block}


@pytest.mark.parametrize(("name", "blocks"), list(zip(TIMM, (8, 4, 12), strict=True)))
def test_blocks_of_timms_models_are_what_their_lists_hold(name, blocks):
    found = structure.blocks_of(timm.create_model(name))
    assert len(found) == blocks
    inside = [parameter for block in found for parameter in block.parameters()]
    assert len({id(parameter) for parameter in inside}) == len(inside)  # no block within another


def test_layer_ids_of_a_hornet_stay_the_same_within_a_larger_model(hornet, segmenter):
    assert structure.layer_ids(hornet) == {n: hornet.layer_id(n) for n, _ in hornet.named_parameters()}
    ids, backbone = structure.layer_ids(segmenter), segmenter.backbone
    assert ids.keys() == dict(segmenter.named_parameters()).keys()
    last = backbone.num_layer_ids - 1
    assert {f"backbone.{name}": backbone.layer_id(name) for name, _ in backbone.named_parameters()} == {
        name: layer for name, layer in ids.items() if name.startswith("backbone.")
    }
    assert {layer for name, layer in ids.items() if not name.startswith("backbone.")} == {last}
    assert ids["backbone.stages.0.0.gamma1"] < last == ids["stages.0.0.weight"]


def test_layer_ids_of_timms_models_are_timms_groups(other):
    ids = structure.layer_ids(other)
    assert ids.keys() == dict(other.named_parameters()).keys()
    head = timm.models.group_parameters(other, other.group_matcher())
    assert ids[f"{other.default_cfg['classifier']}.weight"] == max(ids.values()) == max(head)


def test_a_model_without_layers_is_refused_by_its_name():
    with pytest.raises(ValueError, match="Linear does not say what its layers are"):
        structure.layer_ids(nn.Linear(2, 2))


def test_names_without_weight_decay(hornet, segmenter, monkeypatch):
    assert structure.no_weight_decay(hornet) == set()
    assert structure.no_weight_decay(nn.Linear(2, 2)) == set()
    assert "pos_embed" in structure.no_weight_decay(timm.create_model("vit_tiny_patch16_224"))
    monkeypatch.setattr(HorNet, "no_weight_decay", lambda _: {"head.weight"})
    assert structure.no_weight_decay(segmenter) == {"backbone.head.weight"}


def test_a_larger_model_trains_with_gate_monitor_and_layer_decay(segmenter):
    groups = parameter_groups(
        segmenter.named_parameters(),
        weight_decay=0.1,
        exempt=structure.no_weight_decay(segmenter),
        layer_decay=0.5,
        layer_ids=structure.layer_ids(segmenter),
    )
    scale = {name: group["lr_scale"] for group in groups for name in group["names"]}
    assert scale["classifier.weight"] == scale["stages.1.0.bias"] == 1.0
    assert scale["backbone.stages.3.0.gamma1"] == 0.5
    assert scale["backbone.downsample_layers.0.0.weight"] == 0.5 ** max(
        structure.layer_ids(segmenter).values()
    )
    for group in groups:
        group["lr"] = 0.1 * group["lr_scale"]
    optimizer = torch.optim.AdamW(groups)
    monitor = structure.gate_monitor(segmenter)
    before = segmenter.backbone.stages[0][0].gnconv.proj_in.weight.detach().clone()
    segmenter.train()(torch.randn(2, 3, 32, 48)).square().mean().backward()
    optimizer.step()
    assert monitor.names == tuple(f"gate_product_{stage}" for stage in range(4))
    assert (monitor.read() > 0).all()
    assert not torch.equal(before, segmenter.backbone.stages[0][0].gnconv.proj_in.weight)


def test_only_gating_can_be_watched(hornet, other):
    hornet.train()
    monitor = structure.gate_monitor(hornet)
    hornet(torch.randn(1, 3, 32, 32))
    assert (monitor.read() > 0).all()
    with pytest.raises(ValueError, match="no HorNet"):
        structure.gate_monitor(other)


def test_fusing_changes_the_backbone_alone(hornet, segmenter, other):
    for model, size in ((hornet, 32), (segmenter, (32, 48))):
        images = torch.randn(2, 3, *((32, 48) if model is segmenter else (32, 32)))
        expected = model.eval()(images)
        assert structure.fuse(model, size)
        assert structure.backbone_of(model).stages[0][0].gamma1 is None
        torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5)
    assert segmenter.classifier.weight.requires_grad
    state = copy.deepcopy(other.state_dict())
    assert not structure.fuse(other, 32)
    torch.testing.assert_close(dict(other.state_dict()), dict(state))


def test_activations_are_recomputed_where_the_model_can(hornet, segmenter, other):
    for model in (hornet, segmenter):
        structure.set_grad_checkpointing(model, [1], "it")
        stages = structure.backbone_of(model).stages
        assert [stage.grad_checkpointing for stage in stages] == [False, True, False, False]
        structure.set_grad_checkpointing(model, True, "it")
        assert all(stage.grad_checkpointing for stage in stages)
        with pytest.raises(ValueError, match="stages 0 to 3, not 7"):
            structure.set_grad_checkpointing(model, [7], "it")
    structure.set_grad_checkpointing(other, True, "it")
    assert any(getattr(module, "grad_checkpointing", False) for module in other.modules())
    with pytest.raises(ValueError, match="only a HorNet recomputes some stages, it all or none"):
        structure.set_grad_checkpointing(other, [1], "it")
    with pytest.raises(ValueError, match="it cannot recompute activations"):
        structure.set_grad_checkpointing(nn.Linear(2, 2), True, "it")


def test_the_image_size_that_a_model_is_made_for(hornet, segmenter, other):
    assert structure.image_size_of(hornet) == (32, 32)
    assert structure.image_size_of(segmenter) == (32, 48)
    assert structure.image_size_of(other) == tuple(other.default_cfg["input_size"][1:])
    assert structure.image_size_of(nn.Linear(2, 2)) is None


def test_who_resizes_filters_in_every_forward(hornet, segmenter, other):
    assert [structure.resizes_filters(hornet, size) for size in (32, 64)] == [False, True]
    assert [structure.resizes_filters(segmenter, size) for size in ((32, 48), 32)] == [False, True]
    assert not structure.resizes_filters(other, 32)
    assert not structure.resizes_filters(timm.create_model("hornet_pico_7x7"), 64)
