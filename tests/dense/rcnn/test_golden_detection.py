"""Proposals, heads on regions and whole detectors against outputs of the published code."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hornet_train.dense import HorFPN
from hornet_train.dense.backbone import features_of
from hornet_train.dense.dense_models import create
from hornet_train.dense.rcnn.box_head import BoxHead
from hornet_train.dense.rcnn.boxes import BoxCoder
from hornet_train.dense.rcnn.detector import Detector, DetectorRules
from hornet_train.dense.rcnn.mask_head import MaskHead, mask_losses
from hornet_train.dense.rcnn.matching import Sampler
from hornet_train.dense.rcnn.proposals import RpnHead, RpnRules
from hornet_train.dense.rcnn.region_masks import mask_targets, pasted
from hornet_train.dense.rcnn.regions import Objects, level_of
from hornet_train.dense.rcnn.roi_head import CASCADE, RoiHead, RoiRules
from hornet_train.dense.rcnn.roi_training import roi_losses

Reference = Callable[[str], Mapping[str, np.ndarray]]
FILES = Path(__file__).parents[2] / "reference" / "dense"
WIDTHS = (96, 192, 384, 768)
EVERYTHING = Sampler(10**6, 0.25)


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))


def tensors(arrays: Mapping[str, np.ndarray]) -> Callable[[str], Tensor]:
    return lambda name: torch.from_numpy(np.asarray(arrays[name]))


def bits(arrays: Mapping[str, np.ndarray], name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.unpackbits(arrays[name])[: int(np.prod(shape))].reshape(shape).astype(bool)


def filled(module: nn.Module, shapes: dict[str, list[int]], fill: Any) -> Any:
    assert {name: list(one.shape) for name, one in module.state_dict().items()} == shapes
    module.load_state_dict(fill.fill_(module.state_dict()))
    return module.eval()


def close(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


def in_picture(shares: Tensor, box: Tensor, size: tuple[int, int]) -> np.ndarray:
    window, whole = pasted(shares, box, size), np.zeros(size, dtype=bool)
    height, width = window.pixels.shape
    whole[window.top : window.top + height, window.left : window.left + width] = window.pixels
    return whole


@pytest.fixture
def shapes() -> dict[str, dict[str, list[int]]]:
    return json.loads((FILES / "det_heads_shapes.json").read_text())


def test_proposals_and_their_losses(
    reference: Reference, shapes: dict[str, dict[str, list[int]]], fill: Any
) -> None:
    stored = tensors(reference("dense/det_heads"))
    neck = filled(HorFPN(WIDTHS, mixer="conv"), shapes["neck"], fill)
    with torch.no_grad():
        levels = neck([drawn(402, 1, width, 24 >> i, 32 >> i) for i, width in enumerate(WIDTHS)])
        outputs = filled(RpnHead(), shapes["rpn_head"], fill)(levels)
    for number, level in enumerate(levels):
        close(level[:, ::16, ::4, ::4] if number < 3 else level[:, ::16], stored(f"fpn{number}"))
    close(outputs.objectness[2], stored("rpn_cls2"))
    close(outputs.changes[2], stored("rpn_reg2"))
    height, width = stored("image_shape_hw").tolist()
    rules = RpnRules(before_evaluation=300, after_evaluation=60)
    ((boxes, scores),) = rules.propose(outputs, [(height, width)], training=False)
    known = stored("rpn_proposals_pre300_max60")
    close(torch.cat([boxes, scores[:, None]], 1), known)
    everything = Sampler(10**6, 0.5)
    for name, rules in (
        ("cascade", RpnRules(border=0, beta=1 / 9, sampler=everything)),
        ("mask_rcnn", RpnRules(sampler=everything)),
    ):
        for objects, suffix in ((stored("rpn_gt"), ""), (torch.zeros(0, 4), "_no_objects")):
            found = rules.losses(outputs, [objects], [(height, width)], [0])
            expected = stored(f"rpn_loss_{name}{suffix}").sum(1).tolist()
            assert [float(one.total.sum() / one.items.sum()) for one in found] == pytest.approx(
                expected, rel=1e-4
            )


@torch.no_grad()
def test_heads_on_regions(reference: Reference, shapes: dict[str, dict[str, list[int]]], fill: Any) -> None:
    stored = tensors(reference("dense/det_heads"))
    features = drawn(405, 5, 256, 7, 7)
    rois, labels = stored("head_rois"), stored("cascade_refine_labels")
    for form, name, key in (
        ("4conv1fc", "cascade_head", "bbox_head_4conv1fc"),
        ("2fc", "mask_rcnn_head", "bbox_head_2fc"),
    ):
        outputs = filled(BoxHead(80, form), shapes[key], fill)(features)
        close(outputs.logits, stored(f"{name}_cls"))
        close(outputs.changes, stored(f"{name}_reg"))
        if form == "4conv1fc":
            own = outputs.changes.unflatten(1, (-1, 4))[torch.arange(5), labels]
            height, width = stored("image_shape_hw").tolist()
            for number, stage in enumerate(CASCADE):
                refined = stage.coder.decode(rois, own, (height, width))
                theirs = stored(f"cascade_refined_stage{number}")
                if theirs[:, 3].max() > height:  # those were not cut to the picture
                    refined = stage.coder.decode(rois, own)
                close(refined, theirs)
    logits = filled(MaskHead(80), shapes["mask_head"], fill)(drawn(406, 3, 256, 14, 14))
    close(logits[:, ::20, ::3, ::3], stored("mask_logits"))
    targets = torch.from_numpy(np.random.RandomState(407).random_sample((3, 28, 28)) < 0.5)
    loss = float(mask_losses(logits, stored("head_labels")[:3], targets).mean())
    assert loss == pytest.approx(float(stored("mask_loss")), rel=1e-5)
    assert torch.equal(level_of(stored("rois")), stored("roi_levels"))


def test_squares_of_masks(reference: Reference) -> None:
    arrays = reference("dense/det_masks")
    masks = torch.from_numpy(bits(arrays, "masks_packed", tuple(arrays["masks_shape"])))
    stored = tensors(arrays)
    found = mask_targets(masks, stored("target_boxes"), stored("target_gt"))
    assert np.array_equal(found, bits(arrays, "targets_packed", tuple(arrays["targets_shape"])))
    known = bits(arrays, "paste_packed", tuple(arrays["paste_shape"]))
    for number, expected in enumerate(known):
        shares, box = (stored("paste_k")[number].float() + 0.5) / 256, stored("paste_boxes")[number]
        ours = in_picture(shares, box, (known.shape[1], known.shape[2]))
        if box[0] == box[2]:  # no width: the published code pastes stray pixels
            assert not ours.any()
        else:
            assert (ours != expected).sum() <= int(arrays["paste_near_half"][number])


def trained(arrays: Mapping[str, np.ndarray]) -> tuple[Any, ...]:
    stored = tensors(arrays)
    levels = [drawn(1002, 2, 256, 96 >> i + 2, 128 >> i + 2) for i in range(4)]
    height, width = arrays["mask_shape_hw"].tolist()
    objects = [
        Objects(
            stored(f"gt{i}"),
            stored(f"labels{i}"),
            torch.from_numpy(bits(arrays, f"masks{i}_packed", (len(arrays[f"gt{i}"]), height, width))),
        )
        for i in range(2)
    ]
    pictures = [tuple(arrays[f"image{i}_shape_hw"].tolist()) for i in range(2)]
    return levels, [stored(f"proposals{i}") for i in range(2)], objects, pictures, [0, 1]


def check_training(head: RoiHead, rules: RoiRules, arrays: Mapping[str, np.ndarray], name: str) -> Any:
    losses, begun = roi_losses(head, *trained(arrays), rules)
    known = dict(zip(arrays[f"{name}_loss_names"].tolist(), arrays[f"{name}_losses"].tolist(), strict=True))
    means = {key: one.total.sum() / one.items.sum() for key, one in losses.items()}
    expected = {key: value for key, value in known.items() if "acc" not in key}
    assert {key: float(one.detach()) for key, one in means.items()} == pytest.approx(expected, rel=1e-5)
    sum(means.values()).backward()  # type: ignore[union-attr]
    parameters = dict(head.named_parameters())
    for key, norm in zip(arrays[f"{name}_grad_names"], arrays[f"{name}_grad_norms"], strict=True):
        gradient = parameters.pop(key).grad
        assert gradient is not None
        assert float(gradient.norm()) == pytest.approx(float(norm), rel=1e-3), key
    assert not parameters
    return begun


def test_a_training_forward_of_a_cascade(reference: Reference, fill: Any) -> None:
    arrays = reference("dense/det_train")
    known = json.loads((FILES / "det_train_shapes.json").read_text())
    boxes = nn.ModuleList(BoxHead(80, "4conv1fc") for _ in CASCADE)
    head = filled(RoiHead(boxes, nn.ModuleList(MaskHead(80) for _ in CASCADE)), known, fill)
    begun = check_training(head, RoiRules(CASCADE, EVERYTHING), arrays, "cascade")
    for stage in (1, 2):
        for picture in (0, 1):
            theirs = arrays[f"cascade_refined_after_stage{stage - 1}_image{picture}"]
            close(begun[stage][picture], torch.from_numpy(theirs))


def test_a_training_forward_of_mask_rcnn(
    reference: Reference, shapes: dict[str, dict[str, list[int]]], fill: Any
) -> None:
    known = {f"bbox_head.{name}": shape for name, shape in shapes["bbox_head_2fc"].items()}
    known |= {f"mask_head.{name}": shape for name, shape in shapes["mask_head"].items()}
    head = filled(RoiHead(BoxHead(80, "2fc"), MaskHead(80)), known, fill)
    check_training(head, RoiRules(sampler=EVERYTHING), reference("dense/det_train"), "mask_rcnn")


@torch.no_grad()
def test_a_whole_cascade(reference: Reference, fill: Any) -> None:
    arrays = reference("dense/cascade_whole_tiny_gf_128x160")
    stored = tensors(arrays)
    packed = gzip.decompress((FILES / "keys_cascade_mask_rcnn_hornet_tiny_gf.json.gz").read_bytes())
    model: Detector = filled(create("cascade_mask_rcnn_hornet_tiny_gf", 80), json.loads(packed), fill)
    for head in model.roi_head.box_heads:
        head.fc_cls.weight *= float(arrays["sharpen"])
    rules = model.rules
    model.rules = DetectorRules(
        replace(rules.rpn, before_evaluation=200, after_evaluation=60), replace(rules.roi, most=20)
    )
    images = torch.as_tensor(fill.image_batch(1, 128, 160))
    height, width = arrays["image_shape_hw"].tolist()
    levels = model.neck(features_of(model.backbone, images))
    for number, level in enumerate(levels):
        close(level.mean((0, 2, 3)), stored(f"fpn{number}_mean"))
    ((detected, shares),) = model(images, [(height, width)], scales=[(1.25, 1.25)])
    known, labels = stored("dets"), stored("labels")
    assert sorted(detected.labels.tolist()) == sorted(labels.tolist())
    masks = bits(arrays, "masks_packed", tuple(arrays["masks_shape"]))
    for row, label, mask in zip(known, labels, masks, strict=True):
        apart = (detected.boxes - row[:4]).abs().amax(1) + 1e3 * (detected.labels != label)
        nearest = int(apart.argmin())
        assert apart[nearest] <= 0.1
        assert abs(detected.scores[nearest] - row[4]) <= 1e-3
        ours = in_picture(shares[nearest], detected.boxes[nearest], (masks.shape[1], masks.shape[2]))
        assert (ours != mask).sum() <= max(2, 0.01 * mask.sum())


def test_pictures_without_objects_have_losses_with_a_graph() -> None:
    levels = [torch.randn(2, 16, 32 >> i, 32 >> i, requires_grad=True) for i in range(4)]
    head = RoiHead(BoxHead(3, "2fc", channels=16, width=8), MaskHead(3, channels=16))
    nothing = Objects(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 128, 128))
    for proposals in ([torch.rand(5, 4) * 60] * 2, [torch.zeros(0, 4)] * 2):
        losses, _ = roi_losses(head, levels, proposals, [nothing] * 2, [(128, 128)] * 2, [0, 1], RoiRules())
        total = sum(one.total.sum() / one.items.sum() for one in losses.values())
        assert isinstance(total, Tensor)
        assert total.isfinite()
        total.backward()
        trained = [*head.parameters(), *levels]  # also levels on which no region is seen
        assert all(one.grad is not None and one.grad.isfinite().all() for one in trained)
    assert BoxCoder().decode(torch.zeros(0, 4), torch.zeros(0, 12)).shape == (0, 12)
