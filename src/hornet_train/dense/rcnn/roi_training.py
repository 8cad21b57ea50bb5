"""The losses of heads on regions of interest, and what a cascade's stages make of the boxes meanwhile.

Layout suffixes: `x_R4` is R boxes; `x_P4` those with an object, which come first in each picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hornet_train.dense.rcnn import box_head, mask_head
from hornet_train.dense.rcnn.boxes import giou_loss
from hornet_train.dense.rcnn.mask_head import mask_losses
from hornet_train.dense.rcnn.matching import Matcher, Sampler, mixed_seed
from hornet_train.dense.rcnn.proposals import LossSum
from hornet_train.dense.rcnn.region_masks import mask_targets
from hornet_train.dense.rcnn.regions import Objects, Picture, of_class, regions_of, with_numbers
from hornet_train.dense.rcnn.roi_head import RoiHead, RoiRules, Stage


def roi_losses(
    head: RoiHead,
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
        head: of all stages.
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
        losses, refined = _stage(head, number, levels, chosen, objects, pictures, stage)
        prefix = f"s{number}." if cascade else ""
        found |= {prefix + name: loss for name, loss in losses.items()}
        begun.append(refined)
    return found, begun[:-1]


def _stage(
    heads: RoiHead,
    number: int,
    levels: Sequence[Tensor],
    chosen: Sequence[_Chosen],
    objects: Sequence[Objects],
    pictures: Sequence[Picture],
    stage: Stage,
) -> tuple[dict[str, LossSum], list[Tensor]]:
    """The losses of a stage, and the boxes as it changes them, but for those that are objects."""
    head = heads.box_heads[number]
    rois_R5 = with_numbers([one.boxes for one in chosen])
    outputs = head(regions_of(levels, rois_R5, box_head.SIDE, heads.strides))
    labels_R = torch.cat([one.labels(of, head.num_classes) for one, of in zip(chosen, objects, strict=True)])
    positive = (labels_R < head.num_classes).nonzero()[:, 0]
    targets_P4 = torch.cat([of.boxes[one.objects] for one, of in zip(chosen, objects, strict=True)])
    of_class_R = F.cross_entropy(outputs.logits, labels_R, reduction="none")
    changes_P4 = outputs.changes.unflatten(1, (-1, 4))[positive, labels_R[positive]]
    boxes_P4 = rois_R5[positive, 1:]
    if stage.giou:
        of_boxes_P = 10 * giou_loss(stage.coder.decode(boxes_P4, changes_P4), targets_P4)
    else:
        of_boxes_P = (changes_P4 - stage.coder.encode(boxes_P4, targets_P4)).abs().sum(1)
    rois, found = [len(one.boxes) for one in chosen], [len(one.objects) for one in chosen]
    losses = {
        "loss_cls": _by_picture(stage.weight * of_class_R, rois, rois),
        "loss_bbox": _by_picture(stage.weight * of_boxes_P, found, rois),
    }
    if heads.mask_heads:
        losses["loss_mask"] = _mask_loss(
            heads, number, levels, rois_R5[positive], labels_R[positive], chosen, objects, stage.weight
        )
    with torch.no_grad():
        guessed_R = outputs.logits[:, :-1].argmax(1)
        known_R = torch.where(labels_R < head.num_classes, labels_R, guessed_R)
        own_R4 = of_class(outputs.changes.unflatten(1, (-1, 4)), known_R)
        parts = own_R4.split([len(one.boxes) for one in chosen])
        refined = [
            stage.coder.decode(one.boxes, changes, picture)[~one.is_object]
            for one, changes, picture in zip(chosen, parts, pictures, strict=True)
        ]
    return losses, refined


def _mask_loss(
    heads: RoiHead,
    number: int,
    levels: Sequence[Tensor],
    rois_P5: Tensor,
    labels_P: Tensor,
    chosen: Sequence[_Chosen],
    objects: Sequence[Objects],
    weight: float,
) -> LossSum:
    """Of the regions with an object whose mask is known."""
    targets, rows, before = list[Tensor](), list[Tensor](), 0
    for one, of in zip(chosen, objects, strict=True):
        assert of.masks is not None
        places = one.with_mask(of)
        targets.append(mask_targets(of.masks, one.boxes[places], one.objects[places]))
        rows.append(before + places)
        before += len(one.objects)
    rows_M = torch.cat(rows)
    logits = heads.mask_heads[number](regions_of(levels, rois_P5[rows_M], mask_head.SIDE, heads.strides))
    losses_M = weight * mask_losses(logits, labels_P[rows_M], torch.cat(targets))
    counts = [len(places) for places in rows]
    return _by_picture(losses_M, counts, counts)


def _by_picture(losses_R: Tensor, counts: Sequence[int], items: Sequence[int]) -> LossSum:
    """The losses of regions, so many of each picture, summed by picture; nothing is divided by 0."""
    totals = torch.stack([one.sum() for one in losses_R.split(list(counts))])  # 0 without any: attached
    numbers = torch.tensor([max(one, 1) for one in items], dtype=torch.float32, device=losses_R.device)
    return LossSum(totals, numbers)


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

    def with_mask(self, objects: Objects) -> Tensor:
        """Places of those whose object has a known mask."""
        places = torch.arange(len(self.objects), device=self.objects.device)
        return places if objects.outlined is None else places[objects.outlined[self.objects]]


def _choose(proposals_P4: Tensor, objects: Objects, matcher: Matcher, sampler: Sampler, seed: int) -> _Chosen:
    number = len(objects.boxes)
    candidates = torch.cat([objects.boxes, proposals_P4])
    own = torch.arange(number, device=candidates.device)
    matched = torch.cat([own, matcher(proposals_P4, objects.boxes)])
    sampled = sampler(matched, seed)
    rows = torch.cat([sampled.positive, sampled.negative])
    is_object = rows < number
    return _Chosen(candidates[rows], matched[sampled.positive], is_object)
