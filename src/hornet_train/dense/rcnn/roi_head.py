"""What is done with regions of interest: heads of one stage (Mask R-CNN) or several (a cascade).

Layout suffixes: `x_R4` is R boxes; `x_R5` has the number of each one's picture before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hornet_train.dense.rcnn import box_head, mask_head
from hornet_train.dense.rcnn.box_head import BoxHead
from hornet_train.dense.rcnn.boxes import BoxCoder
from hornet_train.dense.rcnn.mask_head import MaskHead
from hornet_train.dense.rcnn.matching import Matcher, Sampler
from hornet_train.dense.rcnn.regions import REGION_STRIDES, Picture, of_class, regions_of, with_numbers
from hornet_train.dense.rcnn.suppression import Kept, detections


@dataclass(frozen=True)
class Stage:
    """How the head of a stage is trained, and what its changes of boxes mean.

    Attributes:
        matcher: of candidates and objects.
        coder: of its changes.
        giou: whether the loss of boxes is 10 times 1 - GIoU of the changed ones, else L1 of the changes.
        weight: of its losses.
    """

    matcher: Matcher
    coder: BoxCoder
    giou: bool
    weight: float


CASCADE = (
    Stage(Matcher(0.5, 0.5), BoxCoder((0.1, 0.1, 0.2, 0.2)), True, 1.0),
    Stage(Matcher(0.6, 0.6), BoxCoder((0.05, 0.05, 0.1, 0.1)), True, 0.5),
    Stage(Matcher(0.7, 0.7), BoxCoder((0.033, 0.033, 0.067, 0.067)), True, 0.25),
)
SINGLE = (Stage(Matcher(0.5, 0.5, 0.5), BoxCoder((0.1, 0.1, 0.2, 0.2)), False, 1.0),)


@dataclass(frozen=True)
class RoiRules:
    """What is done with the outputs of the heads.

    Attributes:
        stages: one for each head.
        sampler: of the candidates of a picture.
        least_score, most_overlap, most: of detections; see `detections`.
    """

    stages: Sequence[Stage] = SINGLE
    sampler: Sampler = field(default_factory=lambda: Sampler(512, 0.25))
    least_score: float = 0.05
    most_overlap: float = 0.5
    most: int = 100


class RoiHead(nn.Module):
    """Box heads and mask heads, one of each a stage. Names are those of the published checkpoints.

    Args:
        bbox_head: `nn.ModuleList` of a cascade's, or the only one.
        mask_head: likewise; None finds boxes alone.
        strides: of the levels that regions are seen on.
    """

    def __init__(
        self,
        bbox_head: nn.ModuleList | BoxHead,
        mask_head: nn.ModuleList | MaskHead | None,
        strides: Sequence[int] = REGION_STRIDES,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.bbox_head = bbox_head
        if mask_head is not None:
            self.mask_head = mask_head

    @property
    def box_heads(self) -> list[BoxHead]:
        """Of each stage."""
        return _listed(self.bbox_head)

    @property
    def mask_heads(self) -> list[MaskHead]:
        """Of each stage; none where boxes alone are found."""
        return _listed(self.mask_head) if hasattr(self, "mask_head") else []

    def detect(
        self,
        levels: Sequence[Tensor],
        proposals: Sequence[Tensor],
        pictures: Sequence[Picture],
        scales: Sequence[tuple[float, float]],
        rules: RoiRules,
    ) -> list[Kept]:
        """The detections of each picture, their boxes in the pixels of the stored picture.

        Args:
            levels: see `regions_of`.
            proposals: boxes of each picture, (P, 4).
            pictures: sizes, as the model sees them.
            scales: pixels that one of the stored picture has here, across and down.
            rules: see `losses`.
        """
        boxes, logits = list(proposals), list[Tensor]()
        counts = [len(one) for one in boxes]
        for head, stage in zip(self.box_heads, rules.stages, strict=True):
            outputs = head(regions_of(levels, with_numbers(boxes), box_head.SIDE, self.strides))
            logits.append(outputs.logits)
            if len(logits) == len(rules.stages):
                break
            best_R = outputs.logits[:, :-1].argmax(1)
            own_R4 = of_class(outputs.changes.unflatten(1, (-1, 4)), best_R)
            parts = zip(boxes, own_R4.split(counts), pictures, strict=True)
            boxes = [stage.coder.decode(one, changes, picture) for one, changes, picture in parts]
        shares = torch.stack(logits).mean(0).softmax(1).split(counts)
        changes = outputs.changes.split(counts)
        found = []
        for one, change, share, picture, (across, down) in zip(
            boxes, changes, shares, pictures, scales, strict=True
        ):
            decoded = rules.stages[-1].coder.decode(one, change, picture)
            scale = decoded.new_tensor([across, down]).repeat(decoded.shape[1] // 2)
            found.append(
                detections(
                    decoded / scale,
                    share[:, :-1],
                    least_score=rules.least_score,
                    most_overlap=rules.most_overlap,
                    most=rules.most,
                )
            )
        return found

    def masks(
        self, levels: Sequence[Tensor], found: Sequence[Kept], scales: Sequence[tuple[float, float]]
    ) -> list[Tensor]:
        """Of the detections of each picture: probabilities of the pixels over their boxes, (D, 28, 28).

        `scales`: see `detect`. The stages' probabilities are averaged.
        """
        boxes = [
            one.boxes * one.boxes.new_tensor([across, down, across, down])
            for one, (across, down) in zip(found, scales, strict=True)
        ]
        labels_D = torch.cat([one.labels for one in found])
        features = regions_of(levels, with_numbers(boxes), mask_head.SIDE, self.strides)
        shares = [of_class(head(features), labels_D).float().sigmoid() for head in self.mask_heads]
        return list(torch.stack(shares).mean(0).split([len(one.labels) for one in found]))


def _listed(heads: nn.Module) -> list[Any]:
    return list(heads) if isinstance(heads, nn.ModuleList) else [heads]
