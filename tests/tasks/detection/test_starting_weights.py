"""Weights to begin with: of classifiers for the backbone, of detectors with other classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from hornet_train.dense.backbone import build_backbone
from hornet_train.dense.rcnn.detector import Detector
from hornet_train.errors import CheckpointError
from hornet_train.tasks.detection.starting_weights import load_detector, start_detector
from hornet_train.tasks.kit_types import Weights

SMALL = {"dim": 8, "depths": (1, 1, 1, 1)}


def weights(state: dict[str, Any], classes: tuple[str, ...] = ()) -> Weights:
    return Weights(
        {name: tensor.clone() for name, tensor in state.items()}, Path("w.pth"), "model", None, classes, []
    )


def model(classes: int, *, seed: int = 0, **more: Any) -> Detector:
    torch.manual_seed(seed)
    return Detector(build_backbone("hornet_pico_7x7", **SMALL), classes, channels=8, width=16, **more)


def test_a_classifiers_weights_go_into_the_backbone() -> None:
    torch.manual_seed(5)
    classifier = timm.create_model("hornet_pico_7x7", num_classes=5, **SMALL)
    begun = model(3)
    notes = start_detector(begun, weights(classifier.state_dict()), ("a", "b", "c"))
    same = "stages.0.0.pwconv1.weight"
    assert torch.equal(begun.backbone.state_dict()[same], classifier.state_dict()[same])
    assert "left out the file's head of 5 classes" in " ".join(notes)


def test_a_classifier_with_another_stem_says_so() -> None:
    """HorNet pico's own stem has stride 2; in detectors it has 4."""
    classifier = timm.create_model("hornet_pico_7x7", num_classes=5, **SMALL)
    begun = Detector(build_backbone("hornet_pico_7x7", stem_stride=4, **SMALL), 3, channels=8, width=16)
    with pytest.raises(CheckpointError, match=r"its stem has stride 2: model.args=\{stem_stride: 2\}"):
        start_detector(begun, weights(classifier.state_dict()), ("a", "b", "c"))


@pytest.mark.parametrize("cascade", [False, True])
def test_rows_go_along_with_the_names_of_their_classes(cascade: bool) -> None:
    """Of the classes, of their boxes (four rows each) and of their masks; the background keeps its own."""
    theirs, begun = model(3, cascade=cascade), model(4, seed=1, cascade=cascade)
    before = {name: tensor.clone() for name, tensor in begun.state_dict().items()}
    notes = start_detector(
        begun, weights(theirs.state_dict(), ("cat", "dog", "cow")), ("cow", "new", "dog", "cat")
    )
    assert "3 of 4 classes keep their rows, by their names; 1 start anew" in notes[-1]
    given, now = theirs.state_dict(), begun.state_dict()
    stage = ".0" if cascade else ""
    cls, reg = (f"roi_head.bbox_head{stage}.{layer}.weight" for layer in ("fc_cls", "fc_reg"))
    mask = f"roi_head.mask_head{stage}.conv_logits.weight"
    for place, row in ((0, 2), (2, 1), (3, 0)):
        assert torch.equal(now[cls][place], given[cls][row])
        assert torch.equal(now[reg][4 * place : 4 * place + 4], given[reg][4 * row : 4 * row + 4])
        assert torch.equal(now[mask][place], given[mask][row])
    assert torch.equal(now[cls][4], given[cls][3])  # the background
    assert torch.equal(now[cls][1], before[cls][1])
    assert torch.equal(now[mask][1], before[mask][1])
    rest = [name for name in now if not name.startswith("roi_head")]
    assert all(torch.equal(now[name], given[name]) for name in rest)


def test_boxes_alone_and_masks_begin_with_each_other() -> None:
    boxes, masks = model(3, masks=False), model(3, seed=1)
    names = ("a", "b", "c")
    assert "left out" in start_detector(model(3, masks=False), weights(masks.state_dict(), names), names)[0]
    begun = model(3, seed=1)
    assert (
        "starts from its initialisation"
        in start_detector(begun, weights(boxes.state_dict(), names), names)[0]
    )
    mask = "roi_head.mask_head.conv_logits.weight"
    assert torch.equal(begun.state_dict()[mask], masks.state_dict()[mask])


def test_another_model_is_refused() -> None:
    for other in (model(3, mixer="7x7"), model(3, cascade=True), model(4)):
        with pytest.raises(CheckpointError, match=r"w\.pth"):
            load_detector(model(3), weights(other.state_dict()))
