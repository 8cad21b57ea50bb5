"""HorNet's own options: layouts, precisions, the isotropic form, the ablations, impossible ones."""

from __future__ import annotations

import copy

import pytest
import timm
import torch

from hornet_train.models import GlobalLocalFilter, GnConv, HorNet
from hornet_train.models.ablations import PlainConv
from hornet_train.models.layer_ids import layer_id, num_layer_ids


@pytest.fixture
def pico(filled):
    return filled("hornet_pico_gf", num_classes=10)


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


@pytest.mark.parametrize("depths", [(1, 2, 4, 1), (3, 3, 27, 3), (18,)])
def test_layer_ids_of_other_depths_use_every_id_in_order(depths):
    names = [f"stages.{s}.{b}.gamma1" for s, depth in enumerate(depths) for b in range(depth)]
    ids = [layer_id(name, depths) for name in names]
    assert ids == sorted(ids)
    assert sorted({0, *ids, num_layer_ids(depths) - 1}) == list(range(num_layer_ids(depths)))


def test_no_layer_scale_means_no_gammas():
    model = timm.create_model("hornet_pico_7x7", layer_scale_init=0.0)
    assert not [name for name in model.state_dict() if "gamma" in name]
    assert model(torch.randn(1, 3, 32, 32)).isfinite().all()


def test_too_small_images_are_refused(pico):
    with pytest.raises(ValueError, match="15 x 40 are too small: the model's stride needs 16 x 16"):
        pico(torch.randn(1, 3, 15, 40))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"orders": (2, 3)}, "orders has 2 entries for 4 stages: one for all, or one a stage"),
        ({"dim": 24, "orders": (2, 3, 7, 5)}, "order 7 .* not 96; the nearest that works is 128"),
        ({"dim": 8, "depths": (0, 1, 1, 1)}, "each of depths is a whole number from 1 on, not 0"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
        ({"depths": ()}, "the number of stages is a whole number from 1 on, not 0"),
        ({"depths": 18}, "depths is a list, one entry a stage, not 18"),
        ({"isotropic": "maybe"}, "isotropic is true or false, not 'maybe'"),
        ({"drop_rate": "x"}, "drop_rate is a probability below 1, not 'x'"),
        ({"img_size": (64,)}, r"img_size is one number, or \(height, width\), not \(64,\)"),
        ({"img_size": "64"}, "img_size"),
        ({"drop_rate": 1.5}, "drop_rate is a probability below 1"),
        ({"mixers": ("7x7", "gf")}, "mixers has 2 entries for 4 stages"),
        ({"mixers": "4x4"}, "must be odd to keep the size, not 4; use 5"),
        ({"img_size": 31}, "img_size=31 is smaller than the model's stride, 32"),
        ({"gating": "sigmoid"}, "gating is one of recursive, se, none, not 'sigmoid'"),
        ({"global_pool": "token"}, "global_pool is one of"),
        ({"num_classes": -1}, "num_classes is a whole number from 0 on, not -1"),
    ],
)
def test_impossible_options_are_refused(arguments, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        HorNet(**arguments)


def operators(model: HorNet) -> list[torch.nn.Module]:
    return [block.gnconv for stage in model.stages for block in stage]


def test_isotropic_keeps_width_and_resolution():
    model = timm.create_model("hornet_iso_small_gf", device="meta")
    x = torch.randn(1, 3, 224, 224, device="meta")
    maps = model.forward_intermediates(x, intermediates_only=True)
    assert [tuple(f.shape) for f in maps] == [(1, 384, 14, 14)] * 4
    assert model.feature_info[0] == {"num_chs": 384, "reduction": 16, "module": "stages.0"}
    stem = [name for name in model.state_dict() if name.startswith("downsample_layers")]
    assert stem == ["downsample_layers.0.0.weight", "downsample_layers.0.0.bias"]  # no norm, nothing between
    assert not [name for name in model.state_dict() if "gamma" in name]
    mixers = [operator.dwconv for operator in operators(model)]
    assert len(mixers) == 12
    assert {tuple(mixer.complex_weight.shape) for mixer in mixers} == {(372, 14, 8, 2)}


def test_how_the_blocks_are_reported_as_stages_does_not_matter():
    torch.manual_seed(0)
    arguments = {"dim": 16, "orders": 3, "num_classes": 3, "isotropic": True, "stem_stride": 8}
    four = HorNet(depths=(2, 1, 1, 1), **arguments).eval()
    one = HorNet(depths=(5,), **arguments).eval()
    blocks = [f"stages.{s}.{b}." for s, depth in enumerate(four.depths) for b in range(depth)]
    state = {}
    for name, tensor in four.state_dict().items():
        for number, block in enumerate(blocks):
            name = f"stages.0.{number}.{name.removeprefix(block)}" if name.startswith(block) else name
        state[name] = tensor
    one.load_state_dict(state)
    x = torch.randn(2, 3, 32, 40)
    torch.testing.assert_close(one(x), four(x))


def test_ablations_are_one_argument_away():
    x = torch.randn(2, 3, 32, 32)
    build = timm.create_model
    first_order = build("hornet_pico_7x7", orders=1)
    assert all(operator.widths == (operator.proj_in.in_channels,) for operator in operators(first_order))
    ladder = build("hornet_pico_7x7", orders=(1, 1, 2, 3))
    assert [len(stage[0].gnconv.widths) for stage in ladder.stages] == [1, 1, 2, 3]
    for mixer, size in (("3x3", 3), ("5x5", 5), (9, 9)):
        model = build("hornet_pico_gf", mixers=mixer)
        assert all(operator.dwconv.kernel_size == (size, size) for operator in operators(model))
    everywhere = build("hornet_pico_7x7", dim=32, mixers="gf")
    assert all(isinstance(operator.dwconv, GlobalLocalFilter) for operator in operators(everywhere))
    assert everywhere.stages[0][0].gnconv.dwconv.complex_weight.shape[1:3] == (16, 9)
    for gating, excites in (("none", 0), ("se", 1)):
        model = build("hornet_pico_gf", gating=gating)
        assert all(isinstance(operator, PlainConv) for operator in operators(model))
        assert all(len(list(o.excite.parameters())) == 4 * excites for o in operators(model))
        assert model(x).isfinite().all()
    pooled = build("hornet_pico_7x7", mixers="pool")
    assert not [name for name in pooled.state_dict() if "dwconv" in name]
    assert pooled(x).isfinite().all()
    unscaled, scaled = build("hornet_pico_7x7", scale=1.0), build("hornet_pico_7x7")
    assert all(isinstance(o, GnConv) and o.scale == 1.0 for o in operators(unscaled))
    assert all(o.scale == 1 / 3 for o in operators(scaled))


def test_squeeze_and_excitation_gates_each_channel_by_all_means():
    torch.manual_seed(0)
    plain, excited = PlainConv(32), PlainConv(32, squeeze_excite=True)
    excited.load_state_dict(plain.state_dict(), strict=False)
    x = torch.randn(2, 32, 5, 6)
    mixed = plain.dwconv(plain.proj_in(x))
    first, second = excited.excite.fc1, excited.excite.fc2
    means = mixed.mean(dim=(2, 3))
    hidden = (means @ first.weight[:, :, 0, 0].T + first.bias).relu()
    gates = (hidden @ second.weight[:, :, 0, 0].T + second.bias).sigmoid()
    torch.testing.assert_close(excited(x), plain.proj_out(mixed * gates[:, :, None, None]))
