"""Objects whose mask nobody drew, beside others that have one: they train boxes and classes, but no mask."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from configs import compose_train
from shapes import DETECT, write_shapes
from torch import Tensor

from hornet_train.data.collate import Collate
from hornet_train.data.order import Address
from hornet_train.dense.rcnn.box_head import BoxHead
from hornet_train.dense.rcnn.mask_head import MaskHead
from hornet_train.dense.rcnn.regions import Objects
from hornet_train.dense.rcnn.roi_head import RoiHead, RoiRules
from hornet_train.dense.rcnn.roi_training import roi_losses
from hornet_train.tasks.detection.build.kit import KIT
from hornet_train.tasks.detection.build.open_data import open_objects
from hornet_train.tasks.detection.copy_paste import Scene, copy_paste
from hornet_train.tasks.detection.rle import UNKNOWN, Window
from hornet_train.tasks.detection.samples import BOXES, LABELS, WINDOWS


def losses_with(masks: Tensor, outlined: Tensor | None) -> tuple[dict[str, float], list[Tensor]]:
    """The losses of two pictures with the same objects, and the gradients of the mask head."""
    torch.manual_seed(0)
    levels = [torch.randn(2, 16, 32 >> i, 32 >> i) for i in range(4)]
    head = RoiHead(BoxHead(3, "2fc", channels=16, width=8), MaskHead(3, channels=16))
    boxes = torch.tensor([[8.0, 8, 40, 50], [60, 20, 110, 100]])
    objects = Objects(boxes, torch.tensor([0, 2]), masks, outlined)
    others = objects._replace(masks=torch.ones_like(masks), outlined=None)
    proposals = [boxes.repeat(4, 1) + torch.randn(8, 4)] * 2
    rules = (levels, proposals, [objects, others], [(128, 128)] * 2, [0, 1], RoiRules())
    found, _ = roi_losses(head, *rules)
    torch.stack([one.total.sum() for one in found.values()]).sum().backward()
    gradients = [one.grad for heads in head.mask_heads for one in heads.parameters() if one.grad is not None]
    return {name: float(one.total[0].detach() / one.items[0]) for name, one in found.items()}, gradients


def test_the_mask_loss_is_that_of_the_known_ones() -> None:
    masks = torch.zeros(2, 128, 128, dtype=torch.uint8)
    masks[0, 10:30, 10:35] = 1
    other = masks.clone()
    other[1, 20:60, 60:90] = 1
    only_first = torch.tensor([True, False])
    (one, gradients), (same, those) = losses_with(masks, only_first), losses_with(other, only_first)
    assert one == same
    torch.testing.assert_close(gradients, those, rtol=0, atol=0)
    all_known, _ = losses_with(other, None)
    assert all_known["loss_mask"] != one["loss_mask"]
    assert {key: all_known[key] for key in ("loss_cls", "loss_bbox")} == {
        key: one[key] for key in ("loss_cls", "loss_bbox")
    }
    nobody, gradients = losses_with(masks, torch.zeros(2, dtype=torch.bool))
    assert nobody["loss_mask"] == 0
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_from_the_file_to_the_loss(tmp_path: Path) -> None:
    """Every second object loses its outline: it keeps its box and class, and has no mask to be trained."""
    root = write_shapes(tmp_path / "shapes")
    whole: Any = compose_train([*DETECT, f"data.root={root}"]).config
    stored = json.loads((root / "train.json").read_text())
    before = open_objects(whole.data).train
    for number, one in enumerate(stored["annotations"]):
        if number % 2:
            del one["segmentation"]
    (root / "train.json").write_text(json.dumps(stored))
    opened: Any = open_objects(whole.data)
    assert before is not None
    samples = KIT.train_samples(whole, datasets=opened, steps_per_epoch=6, total_steps=6)
    plain = replace(samples, transform=replace(samples.transform, hflip=0.0))
    task = KIT.build_task(whole, opened)
    bare = 0
    for index in range(len(opened.train)):
        outlines = [outline is not None for outline in opened.train.objects.of(index).outlines]
        made = plain.make(Address(0, index), plain.decode(opened.train.read(index)))
        assert made[LABELS].tolist() == before.objects.of(index).labels.tolist()
        assert (made[WINDOWS][:, 0] >= 0).tolist() == outlines
        batch: Any = Collate(plain.ragged, "error", None)([({**made, "index": index}, [])])
        found = task._objects(batch.batch(), 0, tuple(made["image"].shape[1:]))
        assert torch.equal(found.boxes, made[BOXES])
        assert (found.outlined is None) == all(outlines)
        assert found.outlined is None or found.outlined.tolist() == outlines
        assert found.masks is not None
        assert found.masks.flatten(1).any(1).tolist() == outlines
        bare += outlines.count(False)
    assert bare == len(stored["annotations"]) // 2


def test_pasted_objects_hide_those_of_unknown_mask_that_they_cover() -> None:
    image = torch.zeros(3, 20, 20, dtype=torch.uint8)
    boxes = np.array([[1.5, 1.5, 5, 5], [1, 1, 12, 12], [15, 15, 19, 19.0]])
    scene = Scene(image, boxes, np.arange(3), [UNKNOWN] * 3)
    square = Window(0, 0, np.ones((8, 8), dtype=bool))
    other = Scene(image + 9, np.array([[0, 0, 8, 8.0], [3, 3, 6, 6]]), np.array([7, 8]), [square, UNKNOWN])
    found = copy_paste(scene, other, np.random.default_rng(0))
    assert found.labels.tolist() == [1, 2, 7]
    assert found.boxes_N4[:2].tolist() == boxes[1:].tolist()
    assert [mask.top for mask in found.masks] == [-1, -1, 0]
