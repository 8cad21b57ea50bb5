"""The trainings behind the tables of detection in docs/dense.md: detectors side by side, several seeds.

    python scripts/make_shapes.py shapes8 --shapes 8 --train 1000 --val 200 --size 128
    python scripts/detection_study.py shapes shapes8 --out runs/shapes8 --seeds 1
    python scripts/detection_study.py cells blood_cells --out runs/cells
    python scripts/detection_study.py nuclei nuclei --out runs/nuclei

`shapes` trains Mask R-CNN with each pyramid, and the cascade. `cells` (BCCD: 364 pictures with boxes,
COCO's JSON) and `nuclei` (2018 Data Science Bowl, stage 1, BBBC038: masks as COCO's JSON) have no cascade,
but torchvision's `maskrcnn_resnet50_fpn` from random weights, called as it is documented, in the same loop
on the same augmented pictures and with as many regions a picture. Trainings run one a core, with one thread
each; what is finished is not run again, and what was stopped goes on. More keys after the folder are for all
trainings.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from side_by_side import Contender, compare, parser
from torch import Tensor, nn

from hornet_train.data.batch import Batch, ragged, size
from hornet_train.engine.task import Loss
from hornet_train.tasks.detection.average_precision import Found
from hornet_train.tasks.detection.rle import Window, rle_of
from hornet_train.tasks.detection.samples import BOXES, IMAGE, LABELS, PIXELS, WINDOWS, unpacked
from hornet_train.tasks.detection.task import Detection

NECKS = {"FPN": "fpn", "HorFPN 7x7": "horfpn_7x7", "HorFPN GF": "horfpn_gf"}
SMALL = ["data.scale=[128,128]", "augment.short_sides=[128]", "model.channels=32", "task.regions=64"]
BUDGET = {
    "shapes": [*SMALL, "optim.lr=2e-3", "epochs=8", "eval.every=8ep"],
    "cells": [
        *("model.masks=false", "data.scale=[192,256]", "augment.short_sides=[160,176,192]"),
        *("batch_size=4", "epochs=5", "eval.every=5ep", "checkpoint.every=1ep"),
    ],
    "nuclei": [
        *("data.scale=[192,288]", "augment.short_sides=[160,176,192]"),
        *("batch_size=4", "epochs=2", "eval.every=2ep", "checkpoint.every=1ep"),
    ],
}
PEER = "torchvision, ResNet-50"
PEER_RATE = "optim.lr=6e-4"


def trainings(study: str) -> dict[str, Contender]:
    """Name of each contender -> its training."""
    found = {f"Mask R-CNN, {name}": Contender([f"model.neck={neck}"]) for name, neck in NECKS.items()}
    if study != "shapes":
        return {PEER: Contender([PEER_RATE], script=__file__), **found}
    cascade = ["model=cascade_mask_rcnn", "model.backbone=hornet_pico_7x7", "model.width=256"]
    # a step of the cascade costs twice as much
    return {**found, "cascade, FPN": Contender([*cascade, "epochs=5", "eval.every=5ep"])}


@dataclass(frozen=True)
class Theirs(Detection):
    """torchvision's Mask R-CNN on the pictures that ours gets, in 0..1: it normalises and pads by itself."""

    sides: tuple[int, int] = (800, 1333)
    regions: int = 512

    def build_model(self) -> nn.Module:
        from torchvision.models.detection import fasterrcnn_resnet50_fpn, maskrcnn_resnet50_fpn

        make = maskrcnn_resnet50_fpn if self.masks else fasterrcnn_resnet50_fpn
        model: nn.Module = make(
            weights=None,
            weights_backbone=None,
            num_classes=self.classes + 1,
            min_size=self.sides[0],
            max_size=self.sides[1],
            box_batch_size_per_image=self.regions,
            _skip_resize=True,  # in training the pictures come resized
        )
        return model

    def loss(self, model: nn.Module, batch: Batch, rng: np.random.Generator) -> Loss:
        del rng
        images = ragged(batch, IMAGE)
        targets = [self._target(batch, place) for place in range(size(batch))]
        parts: dict[str, Tensor] = model([image.float() / 255 for image in images], targets)
        return Loss(torch.stack(list(parts.values())).sum(), parts=parts)

    def _target(self, batch: Batch, place: int) -> dict[str, Tensor]:
        found = {"boxes": ragged(batch, BOXES)[place], "labels": ragged(batch, LABELS)[place] + 1}
        if self.masks:
            shape = ragged(batch, IMAGE)[place].shape
            parts = ragged(batch, WINDOWS)[place], ragged(batch, PIXELS)[place]
            found["masks"] = unpacked(*parts, (int(shape[1]), int(shape[2])))
        return found

    def answer(self, model: nn.Module, batch: Batch) -> list[Found]:
        found = []
        for image in ragged(batch, IMAGE):
            (one,) = model([image.float() / 255])
            picture = (int(image.shape[1]), int(image.shape[2]))
            masks = [Window(0, 0, (mask[0] > 0.5).cpu().numpy()) for mask in one.get("masks", ())]
            codes = tuple(rle_of(mask, picture) for mask in masks)
            boxes, scores, labels = (one[key].cpu().numpy() for key in ("boxes", "scores", "labels"))
            found.append(Found(boxes, scores, labels - 1, codes))
        return found


def train_peer(keys: Sequence[str]) -> None:
    """`hornet-train`, with torchvision's model in place of ours."""
    from hornet_train.cli.train import main
    from hornet_train.tasks.detection.build import kit
    from hornet_train.tasks.detection.transforms import EvalTransform

    ours = kit.build_task

    def build_task(config: Any, *arguments: Any, **named: Any) -> Theirs:
        task = ours(config, *arguments, **named)
        given = {field.name: getattr(task, field.name) for field in fields(Detection)}
        return Theirs(**given, sides=config.data.scale, regions=config.task.regions)

    setattr(kit, "build_task", build_task)  # noqa: B010 - mypy would have a Detection
    setattr(kit, "eval_transform", lambda _data: EvalTransform(None))  # noqa: B010 - theirs resizes
    main(list(keys))


def main() -> None:
    given = parser(str(__doc__), tuple(BUDGET)).parse_intermixed_args()
    common = ["recipe=objects", f"data.root={given.root}", *BUDGET[given.study]]
    measures = {"box AP": "box_ap", "box AP50": "box_ap50", "box AP75": "box_ap75"}
    if given.study != "cells":
        measures |= {"mask AP": "mask_ap", "mask AP50": "mask_ap50", "mask AP75": "mask_ap75"}
    threads = ["data.workers=1", "dist.threads=1"]
    # torchvision's, with batch norms, has much worse averages after so few steps
    weights = "ema" if given.study == "shapes" else "model"
    compare(trainings(given.study), [*common, *threads], given, measures, weights)


if __name__ == "__main__":
    train_peer(sys.argv[2:]) if sys.argv[1:2] == ["peer"] else main()
