"""HorNet under timm's contract: heads, layouts, precisions, checkpointing, layer ids, variants, costs."""

from __future__ import annotations

import copy
import pickle

import pytest
import timm
import torch

from hornet_train.errors import CheckpointError
from hornet_train.models import HorNet, variants
from hornet_train.models.complexity import count
from hornet_train.models.layer_ids import layer_id, num_layer_ids

# Of the published code: parameters (1000 classes), GMACs of conv and linear layers at 224 and 384 pixels
FAMILY = {
    "hornet_tiny_7x7": (22_409_512, 3.9684, 11.6612),
    "hornet_tiny_gf": (22_991_848, 3.8887, 11.4270),
    "hornet_small_7x7": (49_528_264, 8.8140, 25.9008),
    "hornet_small_gf": (50_401_768, 8.6944, 25.5495),
    "hornet_base_7x7": (87_256_680, 15.5671, 45.7464),
    "hornet_base_gf": (88_421_352, 15.4078, 45.2780),
    "hornet_base_gf_img384": (92_099_560, 15.4078, 45.2780),
    "hornet_large_7x7": (194_542_504, 34.7963, 102.2554),
    "hornet_large_gf": (196_289_512, 34.5572, 101.5529),
    "hornet_large_gf_img384": (201_806_824, 34.5572, 101.5529),
}

ISOTROPIC = {
    "hornet_iso_small_7x7": (21.84, 4.19),
    "hornet_iso_small_gf": (22.47, 4.11),
    "hornet_iso_base_7x7": (84.96, 16.47),
    "hornet_iso_base_gf": (86.22, 16.31),
}


@pytest.fixture
def pico(filled):
    return filled("hornet_pico_gf", num_classes=10)


def test_the_table_has_the_whole_family():
    assert set(variants.VARIANTS) == {*FAMILY, *ISOTROPIC, "hornet_pico_7x7", "hornet_pico_gf"}


@pytest.mark.parametrize("name", FAMILY)
def test_parameters_and_macs_are_the_published_ones(name):
    with torch.device("meta"):
        model = timm.create_model(name)
    small, large = count(model, 224), count(model, 384)
    ours = (small.parameters, round(small.macs / 1e9, 4), round(large.macs / 1e9, 4))
    assert ours == FAMILY[name]


def test_counting_changes_nothing_and_takes_any_model():
    model = timm.create_model("resnet18").train()
    before = copy.deepcopy(model.state_dict())
    assert count(model, (224, 224)).macs == 1_814_073_344
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_timm_builds_and_describes_the_variants():
    model = timm.create_model("hornet_pico_7x7", num_classes=7, in_chans=1, drop_path_rate=0.3)
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 7)
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for stage in model.stages for block in stage]
    assert rates == pytest.approx([0.3 * j / 7 for j in range(8)])
    with torch.device("meta"):
        cfg = timm.create_model("hornet_base_gf_img384").default_cfg
    assert cfg["input_size"] == (3, 384, 384)
    assert (cfg["crop_pct"], cfg["crop_mode"], cfg["interpolation"]) == (1.0, "squash", "bicubic")
    assert (cfg["classifier"], cfg["first_conv"]) == ("head", "downsample_layers.0.0")
    assert timm.get_pretrained_cfg("hornet_tiny_gf").crop_pct == 0.875
    assert pickle.loads(pickle.dumps(variants.hornet_tiny_gf)) is variants.hornet_tiny_gf
    with pytest.raises(TypeError, match="drop_pth_rate"):
        timm.create_model("hornet_pico_gf", drop_pth_rate=0.1)
    with pytest.raises(CheckpointError, match=r"init_from=.*checkpoint_path="):
        timm.create_model("hornet_pico_gf", pretrained=True)


def test_features_only():
    model = timm.create_model("hornet_pico_gf", features_only=True, out_indices=(1, 3))
    assert model.feature_info.channels() == [32, 128]
    assert model.feature_info.reduction() == [4, 16]
    assert [tuple(f.shape) for f in model(torch.randn(1, 3, 50, 37))] == [(1, 32, 12, 9), (1, 128, 3, 2)]


def test_heads(pico):
    x = torch.randn(2, 3, 40, 48)
    features = pico.forward_features(x)
    assert features.shape == (2, 128, 2, 3)
    logits = pico(x)
    torch.testing.assert_close(pico.head(pico.forward_head(features, pre_logits=True)), logits)
    pico.reset_classifier(0)
    assert not [name for name in pico.state_dict() if name.startswith("head")]
    torch.testing.assert_close(pico(x), pico.forward_head(features, pre_logits=True))
    pico.reset_classifier(4, "")
    assert pico.num_classes == pico.get_classifier().out_features == 4
    assert pico(x).shape == (2, 4, 2, 3)
    assert 0.01 < pico.head.weight.std() < 0.03
    assert not pico.head.bias.any()
    with pytest.raises(ValueError, match="global_pool"):
        pico.reset_classifier(4, "max")


def test_channels_last_equals_contiguous(pico):
    x = torch.randn(2, 3, 36, 52)
    expected = pico(x)
    last = copy.deepcopy(pico).to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(x.to(memory_format=torch.channels_last)), expected, rtol=1e-4, atol=1e-4)


def test_bfloat16_autocast_stays_close(pico):
    x = torch.randn(4, 3, 32, 32)
    expected = pico(x)
    with torch.autocast("cpu", torch.bfloat16):
        got = pico(x)
    got.float().square().mean().backward()
    assert all(parameter.grad.isfinite().all() for parameter in pico.parameters())
    assert torch.linalg.vector_norm(got.float() - expected) < 0.03 * torch.linalg.vector_norm(expected)


def test_checkpointing_changes_no_gradient(filled):
    """In training, with drop path: the recomputation must draw the same paths."""
    gradients = []
    for enable in (False, True):
        model = filled("hornet_pico_gf", num_classes=10, drop_path_rate=0.5).train()
        model.set_grad_checkpointing(enable)
        torch.manual_seed(3)
        model(torch.randn(4, 3, 32, 32)).square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert all(gradient is not None for gradient in gradients[0].values())  # nothing is unused, as DDP wants
    torch.testing.assert_close(*gradients)


def test_layer_ids_are_the_published_ones():
    with torch.device("meta"):
        model = timm.create_model("hornet_tiny_gf")
    assert model.num_layer_ids == 14
    for name, _ in model.named_parameters():
        kind, *rest = name.split(".")
        if kind == "downsample_layers":
            expected = (0, 2, 3, 12)[int(rest[0])]
        elif kind == "stages":
            expected = {0: 1, 1: 2, 2: min(3 + int(rest[1]) // 2, 11), 3: 12}[int(rest[0])]
        else:
            expected = 13
        assert model.layer_id(name) == expected, name


@pytest.mark.parametrize("depths", [(1, 2, 4, 1), (3, 3, 27, 3), (18,)])
def test_layer_ids_of_other_depths_use_every_id_in_order(depths):
    names = [f"stages.{s}.{b}.gamma1" for s, depth in enumerate(depths) for b in range(depth)]
    ids = [layer_id(name, depths) for name in names]
    assert ids == sorted(ids)
    assert sorted({0, *ids, num_layer_ids(depths) - 1}) == list(range(num_layer_ids(depths)))


def test_group_matcher_covers_every_parameter(pico):
    groups = timm.models.group_parameters(pico, pico.group_matcher())
    assert sum(len(names) for names in groups.values()) == len(list(pico.parameters()))
    assert "downsample_layers.0.0.weight" in groups[0]
    assert {"norm.weight", "head.bias"} <= set(groups[max(groups)])


def test_no_layer_scale_means_no_gammas():
    model = timm.create_model("hornet_pico_7x7", layer_scale_init=0.0)
    assert not [name for name in model.state_dict() if "gamma" in name]
    assert model(torch.randn(1, 3, 32, 32)).isfinite().all()


def test_too_small_images_are_refused(pico):
    with pytest.raises(ValueError, match="15 x 40 are too small: the model's stride needs 16 x 16"):
        pico(torch.randn(1, 3, 15, 40))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"orders": (2, 3)}, "orders has 2 entries for 4 stages: one for all, or one a stage"),
        ({"dim": 24, "orders": (2, 3, 7, 5)}, "order 7 .* not 96; the nearest that works is 128"),
        ({"dim": 8, "depths": (0, 1, 1, 1)}, "at least 1"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
    ],
)
def test_impossible_options_are_refused(arguments, told):
    with torch.device("meta"), pytest.raises(ValueError, match=told):
        HorNet(**arguments)


def test_it_compiles_into_one_graph(pico):
    captured = []

    def backend(graph, _inputs):
        captured.append(graph)
        return graph

    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(torch.compile(pico, backend=backend, fullgraph=True)(x), pico(x))
    assert len(captured) == 1
