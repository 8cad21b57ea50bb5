"""Checkpoints in other programs' names: mmpretrain's, and the backbones of segmentation and detection."""

from __future__ import annotations

import re

import pytest
import timm
import torch
from torch import Tensor

from hornet_train.errors import CheckpointError
from hornet_train.models.weight_files import read_weights
from hornet_train.models.weights import identify, load_into

NAME = "hornet_pico_gf"


@pytest.fixture
def official() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return timm.create_model(NAME, num_classes=10).state_dict()


def as_mmpretrain(official: dict[str, Tensor]) -> dict[str, Tensor]:
    """What mmpretrain calls the same tensors."""
    theirs = {}
    for name, tensor in official.items():
        name = re.sub(r"\.pws\.", ".projs.", name)
        name = re.sub(r"\.(gamma[12])$", r".\1.weight", name)
        name = re.sub(r"^norm\.", "norm3.", name)
        theirs[name.replace("head.", "head.fc.") if name.startswith("head.") else f"backbone.{name}"] = tensor
    return theirs


def as_dense(official: dict[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """A published backbone for dense prediction: norm0 .. norm3 in place of norm and head."""
    trunk = {name: tensor for name, tensor in official.items() if not name.startswith(("norm.", "head."))}
    for stage in range(4):
        for part in ("weight", "bias"):
            trunk[f"norm{stage}.{part}"] = torch.rand(16 * 2**stage)
    return {f"{prefix}{name}": tensor for name, tensor in trunk.items()}


def saved(tmp_path, content: object):
    path = tmp_path / "theirs.pth"
    torch.save(content, path)
    return path


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


THEIRS = (  # of mmpretrain's own checkpoints
    "backbone.downsample_layers.0.0.weight",
    "backbone.downsample_layers.3.1.bias",
    "backbone.stages.0.0.gamma1.weight",
    "backbone.stages.2.3.gamma2.weight",
    "backbone.stages.2.0.norm1.weight",
    "backbone.stages.2.0.gnconv.proj_in.weight",
    "backbone.stages.2.0.gnconv.dwconv.complex_weight",
    "backbone.stages.3.0.gnconv.projs.3.bias",
    "backbone.stages.0.0.pwconv1.weight",
    "backbone.norm3.weight",
    "head.fc.weight",
    "head.fc.bias",
)


def test_the_names_made_here_are_theirs(official):
    assert set(THEIRS) <= set(as_mmpretrain(official))


def test_mmpretrain_names_are_translated(tmp_path, official):
    content = {"meta": {"mmcls_version": "1.0"}, "state_dict": as_mmpretrain(official)}
    state, origin = read_weights(saved(tmp_path, content))
    assert same(state, official)
    assert (origin["key"], origin["notes"]) == ("state_dict", ["translated mmpretrain's names"])
    assert identify(state) == NAME
    model = timm.create_model(NAME, num_classes=10)
    assert load_into(model, state) == []
    assert same(model.state_dict(), official)


def test_mmpretrain_backbones_for_dense_prediction_keep_their_four_norms(tmp_path, official):
    dense = as_dense(official)
    theirs = {
        re.sub(r"\.(gamma[12])$", r".\1.weight", name).replace(".pws.", ".projs."): t
        for name, t in dense.items()
    }
    state, _ = read_weights(saved(tmp_path, {f"backbone.{name}": t for name, t in theirs.items()}))
    assert same(state, dense)


@pytest.mark.parametrize("prefix", ["", "backbone."])
def test_dense_backbones_load_strictly_into_their_like(tmp_path, official, prefix):
    content = as_dense(official, prefix)
    if prefix:
        content |= {"decode_head.conv_seg.weight": torch.zeros(2), "neck.convs.0.bias": torch.zeros(1)}
        content |= {"neck.convs.1.bias": torch.zeros(1)}
    state, origin = read_weights(saved(tmp_path, {"state_dict": content, "meta": {}, "optimizer": {}}))
    notes = ["took the backbone and left out the tensors of decode_head (1), neck (2)"] if prefix else []
    assert origin["notes"] == notes
    assert identify(state) == NAME
    model = timm.create_model(NAME, features_only=True, output_norms=True).model
    assert load_into(model, state) == []
    assert same(model.state_dict(), state)


def test_classification_weights_start_a_dense_backbone(official):
    model = timm.create_model(NAME, features_only=True, output_norms=True).model
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"missing \(8\): norm0.weight.*unexpected \(4\): norm.weight"):
        load_into(model, official)
    notes = load_into(model, official, allow_new_head=True)
    assert notes == [
        "left out the file's head of 10 classes",
        "left out the file's norm",
        "the model's norm0, norm1, norm2, norm3 starts from its initialisation",
    ]
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, fresh[name] if re.match(r"norm\d", name) else official[name]), name


def test_a_dense_backbone_starts_a_classifier_only_when_asked(official):
    model = timm.create_model(NAME, num_classes=10)
    state = as_dense(official)
    notes = r"missing \(4\): norm.weight, norm.bias, head.weight, head.bias; unexpected \(8\): norm0"
    with pytest.raises(CheckpointError, match=f"{notes}.*hornet_pico_gf, as a dense-prediction backbone"):
        load_into(model, state)
    notes = load_into(model, state, allow_new_head=True)
    assert notes == [
        "the head of 10 classes starts from its initialisation; the file has none",
        "left out the file's norm0, norm1, norm2, norm3",
        "the model's norm starts from its initialisation",
    ]
    assert torch.equal(model.stages[3][0].pwconv2.weight, official["stages.3.0.pwconv2.weight"])


@pytest.mark.parametrize(
    ("spoil", "notes"),
    [
        (lambda s: s.pop("head.bias"), r"missing \(1\): head.bias"),
        (lambda s: s.update({"head.extra": torch.zeros(1)}), r"unexpected \(1\): head.extra"),
        (lambda s: s.update({"head.bias": torch.zeros(9)}), r"head.bias: \(9,\) in the file"),
        (lambda s: s.update({"head.weight": torch.zeros(50, 64)}), r"head.weight: \(50, 64\) in the file"),
        (lambda s: s.update({"head.weight": torch.tensor(1.0)}), r"head.weight: \(\) in the file"),
        (lambda s: s.pop("norm.bias"), r"missing \(1\): norm.bias"),
        (lambda s: s.update({"norm.foo": torch.zeros(1)}), r"unexpected \(1\): norm.foo"),
        (lambda s: [s.pop("norm.bias"), s.pop("norm.weight")], r"missing \(2\): norm.weight, norm.bias"),
        (lambda s: s.update({"norm.weight": torch.zeros(128).long()}), r"whole numbers \(1\): norm.weight"),
    ],
)
def test_a_damaged_classifier_is_refused_also_where_a_new_head_is_allowed(official, spoil, notes):
    model = timm.create_model(NAME, num_classes=10)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    spoil(official)
    with pytest.raises(CheckpointError, match=notes):
        load_into(model, official, allow_new_head=True)
    assert same(model.state_dict(), before)


def test_two_tensors_of_one_name_are_refused(tmp_path, official):
    theirs = {**official, "stages.0.0.gamma1.weight": torch.ones(16)}
    with pytest.raises(CheckpointError, match=r"theirs.pth: two tensors are both 'stages.0.0.gamma1'"):
        read_weights(saved(tmp_path, theirs))


def test_a_plain_head_beside_a_prefixed_backbone_is_the_head(tmp_path, official):
    theirs = {n if n.startswith("head.") else f"backbone.{n}": t for n, t in official.items()}
    state, origin = read_weights(saved(tmp_path, theirs))
    assert same(state, dict(sorted(official.items(), key=lambda item: list(state).index(item[0]))))
    assert origin["notes"] == []


def test_a_missing_tensor_of_the_trunk_is_never_allowed(official):
    state = as_dense(official)
    del state["stages.2.1.gamma1"]
    with pytest.raises(CheckpointError, match=r"missing \(1\): stages.2.1.gamma1"):
        load_into(timm.create_model(NAME, num_classes=10), state, allow_new_head=True)


def test_our_own_names_are_left_alone(tmp_path, official):
    """Also those of features of the last stage alone, which have norm3 and no other norm."""
    model = timm.create_model(NAME, features_only=True, output_norms=True, out_indices=(3,)).model
    state, origin = read_weights(saved(tmp_path, model.state_dict()))
    assert same(state, dict(model.state_dict()))
    assert origin["notes"] == []


def test_other_models_keep_their_names(tmp_path):
    theirs = {"backbone.norm3.weight": torch.zeros(3), "head.fc.weight": torch.zeros(2), "x": torch.ones(1)}
    state, origin = read_weights(saved(tmp_path, theirs))
    assert same(state, theirs)
    assert origin["notes"] == []
