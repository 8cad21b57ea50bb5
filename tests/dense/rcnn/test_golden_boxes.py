"""Anchors, boxes, their matching and suppression beside the published code's."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from hornet_train.dense.rcnn.anchors import Anchors, trainable
from hornet_train.dense.rcnn.boxes import BoxCoder, giou_loss, iou
from hornet_train.dense.rcnn.matching import BACKGROUND, IGNORED, Matcher, Sampler
from hornet_train.dense.rcnn.suppression import detections

Stored = Callable[[str], Tensor]
MATCHERS = {
    "rpn": Matcher(0.7, 0.3, 0.3),
    "stage0": Matcher(0.5, 0.5),
    "stage1": Matcher(0.6, 0.6),
    "stage2": Matcher(0.7, 0.7),
    "mask_rcnn": Matcher(0.5, 0.5, 0.5),
}
STDS = {
    "stage0": (0.1, 0.1, 0.2, 0.2),
    "stage1": (0.05, 0.05, 0.1, 0.1),
    "stage2": (0.033, 0.033, 0.067, 0.067),
    "rpn": (1.0, 1.0, 1.0, 1.0),
}


@pytest.fixture
def stored(reference: Callable[[str], Mapping[str, np.ndarray]]) -> Stored:
    arrays = reference("dense/det_boxes")
    return lambda name: torch.from_numpy(np.asarray(arrays[name]))


def pyramid(stored: Stored) -> tuple[list[tuple[int, int]], tuple[int, int], list[Tensor]]:
    sizes = [(int(height), int(width)) for height, width in stored("feature_sizes")]
    height, width = stored("image_shape_hw").tolist()
    return sizes, (height, width), Anchors().of_levels(sizes, torch.device("cpu"))


def test_anchors(stored: Stored) -> None:
    sizes, picture, levels = pyramid(stored)
    assert torch.equal(torch.stack([Anchors().base(level) for level in range(5)]), stored("base_anchors"))
    assert torch.equal(torch.cat(levels[2:]), stored("anchors_levels_2_to_4"))
    assert torch.equal(levels[0][:96], stored("anchors_level0_first_row"))
    for border, name in ((0, "border0"), (-1, "border_minus1")):
        inside = trainable(levels, sizes, Anchors().strides, picture, border)
        counts = [int(one.sum()) for one in inside.split([len(level) for level in levels])]
        assert counts == stored(f"inside_count_{name}_per_level").tolist()
        found = torch.full((len(inside),), -9)
        found[inside] = MATCHERS["rpn"](torch.cat(levels)[inside], stored("assign_gt"))
        positive = (found >= 0).nonzero()[:, 0]
        assert torch.equal(positive, stored(f"anchors_{name}_pos_index"))
        assert torch.equal(found[positive] + 1, stored(f"anchors_{name}_pos_gt"))
        counts = [int((found == kind).sum()) for kind in (BACKGROUND, IGNORED, -9)]
        assert counts == stored(f"anchors_{name}_neg_ignored_outside").tolist()


@pytest.mark.parametrize("name", STDS)
def test_boxes_are_coded(stored: Stored, name: str) -> None:
    coder, boxes, deltas = BoxCoder(STDS[name]), stored("coder_boxes"), stored("coder_deltas")
    _, picture, _ = pyramid(stored)
    torch.testing.assert_close(coder.encode(boxes, stored("coder_targets")), stored(f"encode_{name}"))
    torch.testing.assert_close(coder.decode(boxes, deltas), stored(f"decode_{name}"))
    torch.testing.assert_close(coder.decode(boxes, deltas, picture), stored(f"decode_clipped_{name}"))
    if name == "stage1":
        found = coder.decode(boxes[:6], stored("coder_deltas_3_classes"), picture)
        torch.testing.assert_close(found, stored("decode_3_classes"))


def test_giou_and_its_gradient(stored: Stored) -> None:
    predicted = stored("giou_pred").requires_grad_()
    losses = 10 * giou_loss(predicted, stored("giou_target"))
    torch.testing.assert_close(losses, stored("giou_loss_each_x10"))
    weights = torch.ones(24)
    weights[5] = 0
    loss = (losses * weights).sum() / 512
    assert loss.item() == pytest.approx(float(stored("giou_loss_weight5_zero_avg512")), rel=1e-6)
    (gradient,) = torch.autograd.grad(loss, predicted)
    torch.testing.assert_close(gradient, stored("giou_grad"), rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name", MATCHERS)
@pytest.mark.parametrize("at_once", [1 << 24, 7])
def test_boxes_are_matched_and_sampled(
    stored: Stored, name: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hornet_train.dense.rcnn.matching._PAIRS", at_once * 6)
    boxes, objects = stored("assign_boxes"), stored("assign_gt")
    found = MATCHERS[name](boxes, objects)
    counted = torch.where(found == BACKGROUND, 0, torch.where(found == IGNORED, -1, found + 1))
    assert torch.equal(counted, stored(f"assign_{name}_gt_inds"))
    torch.testing.assert_close(iou(boxes, objects).amax(1), stored(f"assign_{name}_max_iou"))
    if name != "rpn":  # objects are candidates themselves
        found = torch.cat([torch.arange(len(objects)), found])
    share = 0.5 if name == "rpn" else 0.25
    everything = Sampler(10**6, share)(found, 0)
    assert torch.equal(everything.positive, stored(f"sample_all_{name}_pos"))
    assert torch.equal(everything.negative, stored(f"sample_all_{name}_neg"))
    assert torch.equal(found[everything.positive], stored(f"sample_all_{name}_pos_gt"))
    some = Sampler(32, share)(found, 0)
    assert [len(some.positive), len(some.negative)] == stored(f"sample_32_{name}_counts").tolist()
    again, other = Sampler(32, share)(found, 0), Sampler(32, share)(found, 1)
    assert torch.equal(some.negative, again.negative)
    assert not torch.equal(some.negative, other.negative)


def test_every_box_is_drawn_as_often_as_others() -> None:
    objects = torch.full((200,), BACKGROUND)
    drawn = torch.zeros(200)
    for seed in range(600):
        drawn[Sampler(50, 0.5)(objects, seed).negative] += 1
    assert abs(drawn.mean() - 150) < 1e-3
    assert drawn.std() < 1.3 * (600 * 0.25 * 0.75) ** 0.5
    assert (drawn - 150).abs().max() < 50


def test_without_objects_all_is_background() -> None:
    for matcher in MATCHERS.values():
        assert (matcher(torch.rand(5, 4), torch.zeros(0, 4)) == BACKGROUND).all()


@pytest.mark.parametrize("most", [100, 20])
def test_detections_of_all_classes_are_suppressed(stored: Stored, most: int) -> None:
    found = detections(
        stored("nms_boxes"), stored("nms_scores")[:, :-1], least_score=0.05, most_overlap=0.5, most=most
    )
    expected = stored(f"nms_dets_max{most}")
    torch.testing.assert_close(torch.cat([found.boxes, found.scores[:, None]], 1), expected)
    assert torch.equal(found.labels, stored(f"nms_labels_max{most}"))
    assert torch.equal(found.rows * 5 + found.labels, stored(f"nms_inds_max{most}"))
