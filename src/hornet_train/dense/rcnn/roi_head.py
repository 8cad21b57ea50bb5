"""What is done with regions of interest: heads of one stage (Mask R-CNN) or several (a cascade).

Layout suffixes: `x_R4` is R boxes; `x_R5` has the number of each one's picture before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornet_train.dense.rcnn import box_head, mask_head
from hornet_train.dense.rcnn.box_head import BoxHead
from hornet_train.dense.rcnn.boxes import BoxCoder, areas, giou_loss
from hornet_train.dense.rcnn.mask_head import MaskHead, mask_loss
from hornet_train.dense.rcnn.matching import Matcher, Sampler, mixed_seed
from hornet_train.dense.rcnn.proposals import LossSum
from hornet_train.dense.rcnn.region_masks import mask_targets
from hornet_train.dense.rcnn.roi_align import roi_align
from hornet_train.dense.rcnn.suppression import Kept, detections

Picture = tuple[int, int]  # (height, width) without padding, in pixels
_STRIDES = (4, 8, 16, 32)
_FINEST = 56  # pixels: regions of less than twice this side are seen on the finest level


class Objects(NamedTuple):
    """What is in a picture: boxes (M, 4), labels int64 (M,), and masks (M, H, W), 0 or 1, or None."""

    boxes: Tensor
    labels: Tensor
    masks: Tensor | None = None


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


def level_of(boxes_R4: Tensor) -> Tensor:
    """The level, 0..3, on which each region is seen: by the logarithm of its side (FPN, CVPR 2017, eq. 1)."""
    sides_R = areas(boxes_R4).clamp(min=0).sqrt()
    found: Tensor = (sides_R / _FINEST + 1e-6).log2().floor().clamp(0, len(_STRIDES) - 1).long()
    return found


def regions_of(levels: Sequence[Tensor], rois_R5: Tensor, side: int) -> Tensor:
    """Features of regions, each from its level, (R, C, side, side).

    Args:
        levels: at least four, (B, C, H, W), of strides 4, 8, 16 and 32.
        rois_R5: the picture's number, and the box in its pixels.
        side: bins along an axis.
    """
    level_R = level_of(rois_R5[:, 1:])
    order, parts = list[Tensor](), list[Tensor]()
    for number, stride in enumerate(_STRIDES):
        rows = (level_R == number).nonzero()[:, 0]
        order.append(rows)
        parts.append(roi_align(levels[number], rois_R5[rows], side, 1 / stride))
    found: Tensor = torch.cat(parts)[torch.cat(order).argsort()]
    # every level is part of the graph, also one without a region
    return found + sum(one.flatten()[0] * 0 for one in levels[: len(_STRIDES)])


class RoiHead(nn.Module):
    """Box heads and mask heads, one of each a stage. Names are those of the published checkpoints.

    Args:
        bbox_head: `nn.ModuleList` of a cascade's, or the only one.
        mask_head: likewise; None finds boxes alone.
    """

    def __init__(
        self, bbox_head: nn.ModuleList | BoxHead, mask_head: nn.ModuleList | MaskHead | None
    ) -> None:
        super().__init__()
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

    def losses(
        self,
        levels: Sequence[Tensor],
        proposals: Sequence[Tensor],
        objects: Sequence[Objects],
        pictures: Sequence[Picture],
        seeds: Sequence[int],
        rules: RoiRules,
    ) -> tuple[dict[str, LossSum], list[list[Tensor]]]:
        """The losses of all stages, by their weights, and the proposals that each stage began with.

        Names are `loss_cls`, `loss_bbox` and `loss_mask`, behind `s0.`, `s1.`, ... in a cascade.

        Args:
            levels: see `regions_of`.
            proposals: boxes of each picture, (P, 4).
            objects: of each picture. Their boxes are candidates, too.
            pictures: sizes.
            seeds: of the draws of each picture.
            rules: with as many stages as there are heads.
        """
        found, begun = dict[str, LossSum](), [list(proposals)]
        cascade = len(rules.stages) > 1
        for number, stage in enumerate(rules.stages):
            chosen = [
                _choose(boxes, of_picture, stage.matcher, rules.sampler, mixed_seed(seed, number))
                for boxes, of_picture, seed in zip(begun[-1], objects, seeds, strict=True)
            ]
            losses, refined = self._stage(number, levels, chosen, objects, pictures, stage)
            prefix = f"s{number}." if cascade else ""
            found |= {prefix + name: loss for name, loss in losses.items()}
            begun.append(refined)
        return found, begun[:-1]

    def _stage(
        self,
        number: int,
        levels: Sequence[Tensor],
        chosen: Sequence[_Chosen],
        objects: Sequence[Objects],
        pictures: Sequence[Picture],
        stage: Stage,
    ) -> tuple[dict[str, LossSum], list[Tensor]]:
        """The losses of a stage, and the boxes as it changes them, but for those that are objects."""
        head = self.box_heads[number]
        rois_R5 = _with_numbers([one.boxes for one in chosen])
        outputs = head(regions_of(levels, rois_R5, box_head.SIDE))
        labels_R = torch.cat(
            [one.labels(of, head.num_classes) for one, of in zip(chosen, objects, strict=True)]
        )
        positive = (labels_R < head.num_classes).nonzero()[:, 0]
        targets_P4 = torch.cat([of.boxes[one.objects] for one, of in zip(chosen, objects, strict=True)])
        count = torch.tensor(float(max(len(labels_R), 1)), device=labels_R.device)
        of_class = F.cross_entropy(outputs.logits, labels_R, reduction="sum")
        changes_P4 = outputs.changes.unflatten(1, (-1, 4))[positive, labels_R[positive]]
        boxes_P4 = rois_R5[positive, 1:]
        if not len(positive):
            of_boxes = outputs.changes.sum() * 0
        elif stage.giou:
            of_boxes = 10 * giou_loss(stage.coder.decode(boxes_P4, changes_P4), targets_P4).sum()
        else:
            of_boxes = (changes_P4 - stage.coder.encode(boxes_P4, targets_P4)).abs().sum()
        losses = {
            "loss_cls": LossSum(stage.weight * of_class, count),
            "loss_bbox": LossSum(stage.weight * of_boxes, count),
        }
        if self.mask_heads:
            losses["loss_mask"] = self._mask_loss(
                number, levels, rois_R5[positive], labels_R[positive], chosen, objects, stage.weight
            )
        with torch.no_grad():
            guessed_R = outputs.logits[:, :-1].argmax(1)
            known_R = torch.where(labels_R < head.num_classes, labels_R, guessed_R)
            own_R4 = outputs.changes.unflatten(1, (-1, 4))[torch.arange(len(known_R)), known_R]
            parts = own_R4.split([len(one.boxes) for one in chosen])
            refined = [
                stage.coder.decode(one.boxes, changes, picture)[~one.is_object]
                for one, changes, picture in zip(chosen, parts, pictures, strict=True)
            ]
        return losses, refined

    def _mask_loss(
        self,
        number: int,
        levels: Sequence[Tensor],
        rois_P5: Tensor,
        labels_P: Tensor,
        chosen: Sequence[_Chosen],
        objects: Sequence[Objects],
        weight: float,
    ) -> LossSum:
        logits = self.mask_heads[number](regions_of(levels, rois_P5, mask_head.SIDE))
        targets = list[Tensor]()
        for one, of in zip(chosen, objects, strict=True):
            assert of.masks is not None
            targets.append(mask_targets(of.masks, one.boxes[: len(one.objects)], one.objects))
        total = mask_loss(logits, labels_P, torch.cat(targets))
        count = torch.tensor(float(max(len(labels_P), 1)), device=logits.device)
        return LossSum(weight * total, count)

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
            outputs = head(regions_of(levels, _with_numbers(boxes), box_head.SIDE))
            logits.append(outputs.logits)
            if len(logits) == len(rules.stages):
                break
            best_R = outputs.logits[:, :-1].argmax(1)
            own_R4 = outputs.changes.unflatten(1, (-1, 4))[torch.arange(len(best_R)), best_R]
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
        features = regions_of(levels, _with_numbers(boxes), mask_head.SIDE)
        rows = torch.arange(len(labels_D), device=labels_D.device)
        shares = [head(features)[rows, labels_D].float().sigmoid() for head in self.mask_heads]
        return list(torch.stack(shares).mean(0).split([len(one.labels) for one in found]))


class _Chosen(NamedTuple):
    """The candidates of a picture that are trained.

    Attributes:
        boxes: (R, 4), those with an object first.
        objects: which object each of these has, int64 (P,), P of R.
        is_object: which of them are objects themselves, bool (R,).
    """

    boxes: Tensor
    objects: Tensor
    is_object: Tensor

    def labels(self, objects: Objects, background: int) -> Tensor:
        """Of each, (R,)."""
        found = self.objects.new_full((len(self.boxes),), background)
        found[: len(self.objects)] = objects.labels[self.objects]
        return found


def _choose(proposals_P4: Tensor, objects: Objects, matcher: Matcher, sampler: Sampler, seed: int) -> _Chosen:
    number = len(objects.boxes)
    candidates = torch.cat([objects.boxes, proposals_P4])
    own = torch.arange(number, device=candidates.device)
    matched = torch.cat([own, matcher(proposals_P4, objects.boxes)])
    sampled = sampler(matched, seed)
    rows = torch.cat([sampled.positive, sampled.negative])
    is_object = rows < number
    return _Chosen(candidates[rows], matched[sampled.positive], is_object)


def _with_numbers(boxes: Sequence[Tensor]) -> Tensor:
    """(R, 5): boxes of all pictures, each with its picture's number before it."""
    return torch.cat([F.pad(one, (1, 0), value=float(number)) for number, one in enumerate(boxes)])


def _listed(heads: nn.Module) -> list:  # type: ignore[type-arg]
    return list(heads) if isinstance(heads, nn.ModuleList) else [heads]
