"""Weights to begin with: of classifiers for the backbone, of segmentation models with other classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from hornet_train.dense.backbone import build_backbone
from hornet_train.dense.dense_models import upernet
from hornet_train.dense.segmenter import Segmenter
from hornet_train.errors import CheckpointError
from hornet_train.tasks.kit_types import Weights
from hornet_train.tasks.segmentation.starting_weights import load_segmenter, start_segmenter


def weights(state: dict[str, Any], classes: tuple[str, ...] = ()) -> Weights:
    return Weights(
        {name: tensor.clone() for name, tensor in state.items()}, Path("w.pth"), "model", None, classes, []
    )


def model(classes: int, name: str = "hornet_pico_gf", **more: Any) -> Segmenter:
    return upernet(build_backbone(name, **more), classes, channels=8)


def test_a_classifiers_weights_go_into_the_backbone_and_filters_are_resized_once() -> None:
    classifier = timm.create_model("hornet_pico_gf", num_classes=5, img_size=32)
    begun = model(3, img_size=64)
    notes = start_segmenter(begun, weights(classifier.state_dict()), ("a", "b", "c"))
    given, taken = classifier.state_dict(), begun.backbone.state_dict()
    same = "stages.0.0.pwconv1.weight"
    assert torch.equal(given[same], taken[same])
    filters = [name for name in taken if name.endswith("complex_weight")]
    assert filters
    assert all(taken[name].shape != given[name].shape for name in filters)
    said = " ".join(notes)
    assert "left out the file's head of 5 classes" in said
    assert "resized" in said


@pytest.mark.parametrize("name", ["resnet18", "test_convnext", "swin_tiny_patch4_window7_224"])
def test_a_classifier_of_timm_fits_its_form_for_features(name: str) -> None:
    torch.manual_seed(1)
    classifier = timm.create_model(name, num_classes=5).eval()
    begun = model(3, name).eval()
    notes = start_segmenter(begun, weights(classifier.state_dict()), ("a", "b", "c"))
    assert "the head's, are left out" in notes[0]
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        theirs = timm.create_model(name, num_classes=5)
        theirs.load_state_dict(classifier.state_dict())
        last = theirs.eval().forward_intermediates(images, intermediates_only=True, norm=False)[-1]
        ours = begun.backbone(images)[-1]
        ours = ours if ours.shape == last.shape else ours.permute(0, 3, 1, 2)
    torch.testing.assert_close(ours, last, rtol=1e-4, atol=1e-4)
    other = timm.create_model("hornet_pico_7x7", num_classes=5)
    with pytest.raises(CheckpointError, match=r"w\.pth: made for another backbone: .* missing or of another"):
        start_segmenter(begun, weights(other.state_dict()), ("a", "b", "c"))


def test_rows_of_the_classifying_layers_go_along_with_their_names() -> None:
    old, new = model(3), model(4)
    fresh = new.decode_head.conv_seg.weight.clone()
    notes = start_segmenter(
        new, weights(old.state_dict(), ("sky", "land", "sea")), ("sea", "moon", "sky", "sun")
    )
    rows, theirs = new.decode_head.conv_seg.weight, old.decode_head.conv_seg.weight
    assert torch.equal(rows[0], theirs[2])
    assert torch.equal(rows[2], theirs[0])
    assert torch.equal(rows[1], fresh[1])
    assert torch.equal(new.auxiliary_head.conv_seg.bias[0], old.auxiliary_head.conv_seg.bias[2])
    assert "2 of 4 classes keep their rows, by their names; 2 start anew" in notes


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("other channels", r"decode_head\.conv_seg\.weight has the shape \[3, 16, 1, 1\]"),
        ("no classifier", r"decode_head\.conv_seg\.weight is missing"),
        ("no bias", r"auxiliary_head\.conv_seg\.bias is missing"),
        ("names", r"has 3 outputs and 2 names of classes"),
    ],
)
def test_heads_that_do_not_fit_are_told(how: str, said: str) -> None:
    channels = 16 if how == "other channels" else 8
    state = upernet(build_backbone("hornet_pico_gf"), 3, channels=channels).state_dict()
    gone = {"no classifier": "decode_head.conv_seg", "no bias": "auxiliary_head.conv_seg.bias"}.get(how, "-")
    names = ("sky", "sea") if how == "names" else ("sky", "land", "sea")
    given = weights({name: one for name, one in state.items() if not name.startswith(gone)}, names)
    with pytest.raises(CheckpointError, match=r"w\.pth.*" + said):
        start_segmenter(model(2), given, ("sea", "moon"))


def test_the_auxiliary_head_may_be_missing_on_either_side() -> None:
    with_it, without = model(3), model(3)
    del without.auxiliary_head
    names = ("a", "b", "c")
    assert load_segmenter(without, weights(with_it.state_dict(), names)) == []
    notes = start_segmenter(with_it, weights(without.state_dict(), names), names)
    assert "the auxiliary head starts from its initialisation; the file has none" in notes


def test_a_checkpoint_of_another_size_is_refused() -> None:
    with pytest.raises(CheckpointError, match=r"w\.pth: .*decode_head"):
        load_segmenter(
            upernet(build_backbone("hornet_pico_gf"), 3, channels=16), weights(model(3).state_dict())
        )
