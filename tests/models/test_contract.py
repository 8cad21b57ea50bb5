"""timm's contract for models, held by HorNet; `make test-timm` runs timm's own tests besides."""

from __future__ import annotations

import argparse
import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import timm
import torch
from timm.data import create_transform, resolve_data_config
from timm.optim import create_optimizer_v2

from hornet_train.errors import CheckpointError
from hornet_train.models import HorNet, variants
from hornet_train.models.variants import VARIANTS

KINDS = {
    "7x7": ("hornet_pico_7x7", {}),
    "gf": ("hornet_pico_gf", {}),
    "isotropic": ("hornet_iso_small_gf", {"dim": 32, "img_size": 32, "stem_stride": 8}),
    "se, pool": ("hornet_pico_7x7", {"gating": "se", "mixers": "pool"}),
}


@pytest.fixture(params=KINDS)
def model(request) -> HorNet:
    """Small ones of every kind, in eval mode."""
    name, arguments = KINDS[request.param]
    return timm.create_model(name, num_classes=10, **arguments).eval()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 3, 40, 56)


def test_timm_builds_and_describes_the_variants():
    model = timm.create_model("hornet_pico_7x7", num_classes=7, in_chans=1, drop_path_rate=0.3, drop_rate=0.2)
    assert model(torch.randn(2, 1, 32, 32)).shape == (2, 7)
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for stage in model.stages for block in stage]
    assert rates == pytest.approx([0.3 * j / 7 for j in range(8)])
    assert pickle.loads(pickle.dumps(variants.hornet_tiny_gf)) is variants.hornet_tiny_gf
    with pytest.raises(TypeError, match="drop_pth_rate"):
        timm.create_model("hornet_pico_gf", drop_pth_rate=0.1)
    assert set(timm.list_models("hornet_*")) == set(VARIANTS)


def test_the_published_evaluation_is_in_the_default_config():
    with torch.device("meta"):
        small, large = timm.create_model("hornet_tiny_gf"), timm.create_model("hornet_base_gf_img384")
    config = resolve_data_config({}, model=small)
    assert config["input_size"] == (3, 224, 224)
    assert (config["interpolation"], config["crop_pct"], config["crop_mode"]) == ("bicubic", 0.875, "center")
    assert config["mean"] == (0.485, 0.456, 0.406)
    config = resolve_data_config({}, model=large)
    assert config["input_size"] == (3, 384, 384)
    assert (config["crop_pct"], config["crop_mode"]) == (1.0, "squash")
    picture = create_transform(**config)(_picture(500, 300))
    assert picture.shape == (3, 384, 384)
    assert (large.default_cfg["classifier"], large.default_cfg["first_conv"]) == (
        "head",
        "downsample_layers.0.0",
    )


def _picture(height: int, width: int):
    from PIL import Image

    return Image.fromarray(np.zeros((height, width, 3), np.uint8))


def test_dropout_acts_before_the_head_and_in_training_only(x):
    model = timm.create_model("hornet_pico_7x7", drop_rate=0.999, num_classes=5).train()
    features = model.forward_features(x)
    assert (model.forward_head(features, pre_logits=True) == 0).float().mean() > 0.9
    model.eval()
    assert (model.forward_head(features, pre_logits=True) != 0).all()


def test_heads(model, x):
    features = model.forward_features(x)
    assert features.shape[1] == model.num_features == model.head_hidden_size
    logits = model(x)
    torch.testing.assert_close(model.head(model.forward_head(features, pre_logits=True)), logits)
    torch.testing.assert_close(
        model.forward_head(features, pre_logits=True), model.norm(features.mean(dim=(2, 3)))
    )
    model.reset_classifier(0)
    assert not [name for name in model.state_dict() if name.startswith("head")]
    torch.testing.assert_close(model(x), model.forward_head(features, pre_logits=True))
    model.reset_classifier(4, "")
    assert model.num_classes == model.get_classifier().out_features == 4
    assert model(x).shape == (2, 4, *features.shape[2:])
    assert 0.015 < model.head.weight.std() < 0.025
    assert not model.head.bias.any()
    model.reset_classifier(4, "max")
    highest = model.forward_head(features, pre_logits=True)
    torch.testing.assert_close(highest, model.norm(features.amax(dim=(2, 3))))
    model.reset_classifier(3)
    torch.testing.assert_close(model.forward_head(features, pre_logits=True), highest)  # the pooling stays
    with pytest.raises(ValueError, match="global_pool is one of"):
        model.reset_classifier(4, "catavgmax")


def test_the_head_follows_device_and_dtype(model):
    model.to(dtype=torch.float64)
    model.reset_classifier(3)
    assert model.head.weight.dtype == torch.float64
    model.to("meta").reset_classifier(3)
    assert model.head.weight.is_meta


def test_factories_take_device_and_dtype(x):
    for name, arguments in KINDS.values():
        empty = timm.create_model(name, device="meta", dtype=torch.float64, **arguments)
        assert all(parameter.is_meta for parameter in empty.parameters())
        assert all(parameter.dtype == torch.float64 for parameter in empty.parameters())
        filled = empty.to_empty(device="cpu")
        with torch.no_grad():
            for parameter in filled.parameters():
                parameter.fill_(torch.nan)
        filled.init_weights()
        assert filled(x.double()).isfinite().all()
        for key, fresh in timm.create_model(name, **arguments).state_dict().items():
            drawn = filled.state_dict()[key]
            if fresh.std() == 0:
                assert torch.equal(drawn, fresh.double()), key
            else:
                assert 0.3 < drawn.std() / fresh.std() < 3, key


def test_features(model, x):
    every = model.forward_intermediates(x, intermediates_only=True)
    assert [f.shape[1] for f in every] == [info["num_chs"] for info in model.feature_info]
    assert [f.shape[2] for f in every] == [40 // info["reduction"] for info in model.feature_info]
    last, some = model.forward_intermediates(x, indices=[-1, 1])
    torch.testing.assert_close(last, model.forward_features(x))
    torch.testing.assert_close(some, [every[1], every[3]])
    early, (second,) = model.forward_intermediates(x, indices=[1], stop_early=True)
    torch.testing.assert_close(early, second)
    (normed,) = model.forward_intermediates(x, indices=1, norm=True, intermediates_only=True)
    torch.testing.assert_close(normed.permute(0, 2, 3, 1), model.norm(every[3].permute(0, 2, 3, 1)))
    with pytest.raises(ValueError, match="NCHW only"):
        model.forward_intermediates(x, output_fmt="NLC")
    with pytest.raises(AssertionError, match="out of range"):
        model.forward_intermediates(x, indices=[4])
    with pytest.raises(ValueError, match="too small"):
        model.forward_intermediates(x[:, :, :7])


def test_features_only(x):
    whole = timm.create_model("hornet_pico_gf").eval()
    model = timm.create_model("hornet_pico_gf", features_only=True, out_indices=(1, 2)).eval()
    assert model.feature_info.channels() == [32, 64]
    assert model.feature_info.reduction() == [4, 8]
    kept = {name.removeprefix("model."): tensor for name, tensor in model.state_dict().items()}
    assert not [name for name in kept if name.startswith(("stages.3", "downsample_layers.3", "norm", "head"))]
    model.model.load_state_dict({name: whole.state_dict()[name] for name in kept})
    every = whole.forward_intermediates(x, intermediates_only=True)
    torch.testing.assert_close(model(x), every[1:3])
    odd = torch.randn(1, 3, 50, 37)
    assert [tuple(f.shape) for f in model(odd)] == [(1, 32, 12, 9), (1, 64, 6, 4)]
    sum(f.sum() for f in model.train()(x)).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())  # as DDP wants


def test_features_for_dense_prediction_have_their_norms(x):
    """The published backbones of segmentation and detection: norm0 .. norm3, neither norm nor head."""
    model = timm.create_model("hornet_pico_7x7", features_only=True, output_norms=True).eval()
    names = {name.split(".")[1] for name in model.state_dict()}
    assert names == {"downsample_layers", "stages", "norm0", "norm1", "norm2", "norm3"}
    plain = timm.create_model("hornet_pico_7x7", features_only=True).eval()
    plain.load_state_dict({n: t for n, t in model.state_dict().items() if not n.startswith("model.norm")})
    for stage, (normed, bare) in enumerate(zip(model(x), plain(x), strict=True)):
        torch.testing.assert_close(normed, model.model.get_submodule(f"norm{stage}")(bare))
    some = timm.create_model("hornet_pico_7x7", features_only=True, output_norms=True, out_indices=(1, 3))
    sum(f.sum() for f in some(x)).backward()
    assert all(parameter.grad is not None for parameter in some.parameters())


@pytest.mark.parametrize("frozen", [False, True])
def test_checkpointing_changes_no_gradient(filled, frozen):
    """In training, with drop path: the recomputation must draw the same paths."""
    gradients = []
    for enable in (False, True, [2, 0]):
        model = filled("hornet_pico_gf", num_classes=10, drop_path_rate=0.5).train()
        model.downsample_layers[0].requires_grad_(not frozen)
        model.set_grad_checkpointing(enable)
        torch.manual_seed(3)
        model(torch.randn(4, 3, 32, 32)).square().mean().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    assert all(gradient is not None for gradient in gradients[0].values())  # nothing is unused, as DDP wants
    for recomputed in gradients[1:]:
        torch.testing.assert_close(gradients[0], recomputed)
    with pytest.raises(ValueError, match="stages 0 to 3, not 4"):
        model.set_grad_checkpointing([1, 4])


def test_group_matcher_covers_every_parameter_in_order_of_depth(model):
    for coarse in (False, True):
        groups = timm.models.group_parameters(model, model.group_matcher(coarse))
        assert sum(len(names) for names in groups.values()) == len(list(model.parameters()))
        assert "downsample_layers.0.0.weight" in groups[0]
        assert {"norm.weight", "head.bias"} <= set(groups[max(groups)])
        depth = {name: group for group, names in groups.items() for name in names}
        order = [depth[f"stages.{s}.{b}.norm1.weight"] for s, n in enumerate(model.depths) for b in range(n)]
        assert order == sorted(order)
        assert max(groups) + 1 == (6 if coarse else model.num_layer_ids)
        if not coarse:
            assert depth == {name: model.layer_id(name) for name, _ in model.named_parameters()}


def test_layer_ids_are_the_published_ones():
    model = timm.create_model("hornet_tiny_gf", device="meta")
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
    optimizer = create_optimizer_v2(model, "adamw", lr=1.0, weight_decay=0.1, layer_decay=0.7)
    scales = {round(group["lr_scale"], 5) for group in optimizer.param_groups}
    assert scales == {round(0.7**id_, 5) for id_ in range(14)}


def test_copies_and_pickles_compute_the_same(model, x):
    expected = model(x)
    torch.testing.assert_close(copy.deepcopy(model)(x), expected)
    torch.testing.assert_close(pickle.loads(pickle.dumps(model))(x), expected)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_torchscript(model, x, tmp_path):
    scripted = torch.jit.script(model)
    scripted.save(str(tmp_path / "model.pt"))
    torch.testing.assert_close(torch.jit.load(str(tmp_path / "model.pt"))(x), model(x))
    features = timm.create_model("hornet_pico_gf", features_only=True, out_indices=(0, 2)).eval()
    torch.testing.assert_close(torch.jit.script(features)(x), features(x))
    with pytest.raises(torch.jit.Error, match="too small"):
        scripted(x[:, :, :7])


def test_symbolic_tracing(model, x):
    traced = torch.fx.symbolic_trace(model)
    torch.testing.assert_close(traced(x), model(x))
    other = torch.randn(1, 3, 33, 64)
    torch.testing.assert_close(traced(other), model(other))


def test_it_compiles_into_one_graph(model, x):
    captured = []

    def backend(graph, _inputs):
        captured.append(graph)
        return graph

    torch.testing.assert_close(torch.compile(model, backend=backend, fullgraph=True)(x), model(x))
    assert len(captured) == 1


def test_export_with_a_dynamic_batch(model, x):
    exported = torch.export.export(model, (x,), dynamic_shapes={"x": {0: torch.export.Dim("batch")}})
    torch.testing.assert_close(exported.module()(x[:1]), model(x[:1]))


@pytest.mark.parametrize("named", [True, False])
def test_export_of_7x7_with_a_dynamic_size(named, x):
    model = timm.create_model("hornet_pico_7x7", num_classes=10).eval()
    size = torch.export.Dim.DYNAMIC
    height = torch.export.Dim("height", min=32, max=512) if named else size
    width = torch.export.Dim("width", min=32, max=512) if named else size
    shapes = {"x": {0: torch.export.Dim("batch"), 2: height, 3: width}}
    exported = torch.export.export(model, (x,), dynamic_shapes=shapes).module()
    for other in (torch.randn(1, 3, 64, 99), torch.randn(3, 3, 128, 32)):
        torch.testing.assert_close(exported(other), model(other))


def test_float64_stays_float64(model, x):
    double = model.double()
    out = double(x.double())
    assert out.dtype == torch.float64
    out.square().mean().backward()
    assert all(parameter.grad.dtype == torch.float64 for parameter in double.parameters())
    torch.testing.assert_close(out.float(), model.float()(x), rtol=1e-4, atol=1e-4)


def test_filters_are_resized_once_for_another_size():
    model = timm.create_model("hornet_pico_gf", num_classes=10).eval()
    big = torch.randn(1, 3, 64, 96)
    expected = model(big)
    model.requires_grad_(False)
    model.set_input_size((64, 96))
    assert model.stages[2][0].gnconv.dwconv.complex_weight.shape == (60, 8, 7, 2)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    torch.testing.assert_close(model(big), expected)
    assert model.img_size == (64, 96)
    before = list(model.parameters())
    model.set_input_size((64, 96))
    assert all(a is b for a, b in zip(before, model.parameters(), strict=True))  # an optimizer may hold them
    with pytest.raises(ValueError, match="img_size=8 is smaller than the model's stride, 16"):
        model.set_input_size(8)


def test_timm_loads_checkpoints(tmp_path):
    source = timm.create_model("hornet_pico_gf", num_classes=10, drop_path_rate=0.1)
    path = tmp_path / "checkpoint-best.pth"
    args = argparse.Namespace(model="hornet_pico_gf")
    torch.save({"model": source.state_dict(), "args": args, "epoch": 3}, path)
    loaded = timm.create_model("hornet_pico_gf", num_classes=10, checkpoint_path=path)
    torch.testing.assert_close(dict(loaded.state_dict()), dict(source.state_dict()))
    larger = timm.create_model(
        "hornet_pico_gf",
        pretrained=True,
        pretrained_cfg_overlay={"file": str(path), "num_classes": 10},
        num_classes=4,
        in_chans=1,
        img_size=64,
    )
    assert larger.stages[2][0].gnconv.dwconv.complex_weight.shape == (60, 8, 5, 2)
    assert larger.head.out_features == 4
    torch.testing.assert_close(larger.stages[0][0].pwconv1.weight, source.stages[0][0].pwconv1.weight)
    assert larger.downsample_layers[0][0].weight.shape[1] == 1
    with pytest.raises(CheckpointError, match=r"init_from=.*pretrained_cfg_overlay="):
        timm.create_model("hornet_pico_gf", pretrained=True)


def test_timms_sources_of_weights_all_lead_to_the_strict_loading(tmp_path, caplog):
    """timm itself loads with strict=False where the head has other classes, and for features_only."""
    source = timm.create_model("hornet_pico_gf", num_classes=10)
    state = source.state_dict()
    theirs = {
        (f"backbone.{n}" if not n.startswith("head.") else n.replace("head.", "head.fc.")).replace(
            ".pws.", ".projs."
        ): t
        for n, t in state.items()
    }
    torch.save({"module": theirs}, tmp_path / "theirs.pth")
    torch.save(timm.create_model("hornet_pico_7x7", num_classes=10).state_dict(), tmp_path / "other.pth")
    path = str(tmp_path / "theirs.pth")
    cfg = timm.models.PretrainedCfg(
        file=path,
        num_classes=10,
        input_size=(3, 32, 32),
        first_conv="downsample_layers.0.0",
        classifier="head",
    )
    for arguments in (
        {"pretrained_cfg_overlay": {"file": path, "num_classes": 10}, "num_classes": 10},
        {"pretrained_cfg_overlay": {"state_dict": state, "num_classes": 10}, "num_classes": 10},
        {"pretrained_cfg": cfg, "num_classes": 10},
    ):
        loaded = timm.create_model("hornet_pico_gf", pretrained=True, **arguments)
        torch.testing.assert_close(dict(loaded.state_dict()), dict(state))
    assert "translated mmpretrain's names" in caplog.text
    del theirs["backbone.downsample_layers.0.0.bias"]
    torch.save(theirs, tmp_path / "stemless.pth")
    stemless = {"file": str(tmp_path / "stemless.pth"), "num_classes": 10}
    with pytest.raises(CheckpointError, match=r"missing \(1\): downsample_layers.0.0.bias"):
        timm.create_model("hornet_pico_gf", pretrained=True, pretrained_cfg_overlay=stemless)
    torch.save({n: t[:, :, 1:] if t.ndim == 4 and "layers.0.0" in n else t for n, t in state.items()}, path)
    with pytest.raises(CheckpointError, match=r"downsample_layers.0.0.weight: \(16, 3, 1, 2\) in the file"):
        timm.create_model("hornet_pico_gf", pretrained=True, pretrained_cfg_overlay={"file": path})
    wrong = {"file": str(tmp_path / "other.pth"), "num_classes": 10}
    for arguments in ({"features_only": True}, {"num_classes": 7}, {"num_classes": 10}):
        with pytest.raises(CheckpointError, match=r"missing \(30\): stages.2.0.gnconv.dwconv"):
            timm.create_model("hornet_pico_gf", pretrained=True, pretrained_cfg_overlay=wrong, **arguments)


def test_other_ways_to_take_features(x):
    for kind in ("hook", "fx"):
        model = timm.create_model("hornet_pico_7x7", features_only=True, feature_cls=kind).eval()
        assert [f.shape[1] for f in model(x)] == [16, 32, 64, 128]
        with pytest.raises(ValueError, match="output_norms goes with feature_cls='getter'"):
            timm.create_model("hornet_pico_7x7", features_only=True, feature_cls=kind, output_norms=True)


@pytest.mark.long
def test_one_import_registers_in_an_empty_folder(tmp_path):
    code = (
        "import hornet_train, timm; print(type(timm.create_model('hornet_small_gf', device='meta')).__name__)"
    )
    for order in (code, code.replace("hornet_train, timm", "timm, hornet_train")):
        run = subprocess.run([sys.executable, "-c", order], cwd=tmp_path, capture_output=True, text=True)
        assert (run.stdout.strip(), run.stderr) == ("HorNet", "")
