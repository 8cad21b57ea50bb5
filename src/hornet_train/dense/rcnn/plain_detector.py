"""A detector as a function of tensors alone, in operators that every runtime has: for exports.

It says what `Detector` says of one picture. Nothing in it depends on a number of boxes, so that a trace of it
holds for every picture.

Layout suffixes: `x_N4` is N boxes; `x_RK...` has a value for each of K classes of R regions.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.jit._trace import is_tracing
from torchvision.ops import nms, roi_align

from hornet_train.dense.backbone import features_of
from hornet_train.dense.rcnn import box_head, mask_head
from hornet_train.dense.rcnn.boxes import BoxCoder
from hornet_train.dense.rcnn.detector import LEVELS, Detector
from hornet_train.dense.rcnn.proposals import RpnOutputs
from hornet_train.dense.rcnn.regions import level_of


class PlainDetector(nn.Module):
    """Boxes of one image, their scores, classes and masks.

    Args:
        detector: in evaluation mode; its modules are these.
    """

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector
        anchors = detector.rules.rpn.anchors
        for level in range(len(anchors.strides)):
            self.register_buffer(f"anchors_{level}", anchors.base(level))

    def forward(self, images: Tensor, picture: Tensor | None = None) -> tuple[Tensor, ...]:
        """The detections, the highest score first.

        Args:
            images: (1, C, H, W).
            picture: float (2,), the height and width of the picture without its padding; None: all of it.

        Returns:
            Boxes (D, 4), scores (D,), labels int64 (D,), and of models with masks the probabilities of their
            pixels over the boxes, (D, 28, 28).
        """
        detector, rules = self.detector, self.detector.rules.roi
        whole = images.new_tensor([float(images.shape[2]), float(images.shape[3])])
        most = (whole if picture is None else picture).flip(0).repeat(2)  # corners: across, down
        levels = detector.neck(features_of(detector.backbone, images)[-LEVELS:])
        boxes_R4 = self._proposals(detector.rpn_head(levels), most)
        boxes_RK4, shares_RK = self._seen(levels, boxes_R4, most)
        chosen = (shares_RK > rules.least_score).nonzero()
        places = chosen[:, 0] * shares_RK.shape[1] + chosen[:, 1]
        boxes_N4, scores_N, labels_N = (
            boxes_RK4.flatten(0, 1)[places],
            shares_RK.flatten()[places],
            chosen[:, 1],
        )
        kept = _suppressed(boxes_N4, scores_N, labels_N, rules.most_overlap)[: rules.most]
        found = boxes_N4[kept], scores_N[kept], labels_N[kept]
        heads = detector.roi_head.mask_heads
        if not heads:
            return found
        features = self._regions(levels, found[0], mask_head.SIDE)
        shares = [_of_class(head(features), found[2]).sigmoid() for head in heads]
        return *found, torch.stack(shares).mean(0)

    def _proposals(self, outputs: RpnOutputs, most: Tensor) -> Tensor:
        """See `RpnRules.propose`. Shape out: (P, 4)."""
        rules = self.detector.rules.rpn
        boxes, scores, numbers = list[Tensor](), list[Tensor](), list[Tensor]()
        for level, (logits, changes) in enumerate(zip(*outputs, strict=True)):
            shares_N = logits.permute(0, 2, 3, 1).flatten().sigmoid()
            deltas_N4 = changes.permute(0, 2, 3, 1).reshape(-1, 4)
            best_P, rows_P = _best(shares_N, rules.before_evaluation)
            anchors_P4 = self._anchors(level, logits)[rows_P]
            boxes.append(_decoded(rules.coder, anchors_P4, deltas_N4[rows_P], most))
            scores.append(best_P)
            numbers.append(torch.full_like(rows_P, level))
        boxes_N4, scores_N, numbers_N = torch.cat(boxes), torch.cat(scores), torch.cat(numbers)
        there = (boxes_N4[:, 2:] > boxes_N4[:, :2]).all(1).nonzero()[:, 0]
        boxes_N4 = boxes_N4[there]
        kept = _suppressed(boxes_N4, scores_N[there], numbers_N[there], rules.most_overlap)
        return boxes_N4[kept[: rules.after_evaluation]]

    def _anchors(self, level: int, logits: Tensor) -> Tensor:
        """See `Anchors.of_levels`."""
        height, width = logits.shape[2:]
        stride = self.detector.rules.rpn.anchors.strides[level]
        y = (torch.arange(height) * stride)[:, None].expand(height, width)
        x = (torch.arange(width) * stride)[None].expand(height, width)
        cells = torch.stack([x, y, x, y], 2).reshape(-1, 1, 4)
        base: Tensor = getattr(self, f"anchors_{level}")
        return (cells + base).reshape(-1, 4)

    def _seen(self, levels: list[Tensor], boxes_R4: Tensor, most: Tensor) -> tuple[Tensor, Tensor]:
        """See `RoiHead.detect`: boxes (R, K, 4), one for each class, and the classes' shares (R, K)."""
        stages = self.detector.rules.roi.stages
        logits = list[Tensor]()
        for head, stage in zip(self.detector.roi_head.box_heads, stages, strict=True):
            outputs = head(self._regions(levels, boxes_R4, box_head.SIDE))
            logits.append(outputs.logits)
            changes_RK4 = outputs.changes.unflatten(1, (-1, 4))
            if len(logits) < len(stages):
                own_R4 = _of_class(changes_RK4, outputs.logits[:, :-1].argmax(1))
                boxes_R4 = _decoded(stage.coder, boxes_R4, own_R4, most)
        decoded = _decoded(stages[-1].coder, boxes_R4, outputs.changes, most)
        return decoded.unflatten(1, (-1, 4)), torch.stack(logits).mean(0).softmax(1)[:, :-1]

    def _regions(self, levels: list[Tensor], boxes_R4: Tensor, side: int) -> Tensor:
        """See `regions_of`."""
        strides = self.detector.roi_head.strides
        level_R, rois_R5 = level_of(boxes_R4, strides), F.pad(boxes_R4, (1, 0))
        order, parts = list[Tensor](), list[Tensor]()
        for number, stride in enumerate(strides):
            rows = (level_R == number).nonzero()[:, 0]
            order.append(rows)
            parts.append(roi_align(levels[number], rois_R5[rows], side, 1 / stride, 0, aligned=True))
        return torch.cat(parts)[torch.cat(order).argsort()]


def _best(values_N: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The highest values, so many or all, and their places; of equal ones the first, as ONNX has it."""
    if not is_tracing():
        sorted_N, places_N = values_N.sort(descending=True, stable=True)
        return sorted_N[:most], places_N[:most]
    # a tensor, as there may be fewer in other images
    number: Any = torch.cat([torch.tensor([most]), torch._shape_as_tensor(values_N)]).min()
    found = values_N.topk(number)
    return found.values, found.indices


def _decoded(coder: BoxCoder, boxes_N4: Tensor, deltas_ND: Tensor, most: Tensor) -> Tensor:
    """Boxes that are changed and cut to a picture; `most`: its width, height, width and height."""
    made = coder.decode(boxes_N4, deltas_ND)
    return torch.minimum(made.clamp(min=0), most.repeat(made.shape[1] // 4))


def _suppressed(boxes_N4: Tensor, scores_N: Tensor, groups_N: Tensor, most_overlap: float) -> Tensor:
    """See `suppressed`; boxes are not below 0."""
    largest = F.pad(boxes_N4.flatten(), (0, 1)).max()  # there may be none
    apart_N4 = boxes_N4 + (groups_N.to(boxes_N4) * (largest + 1))[:, None]
    kept: Tensor = nms(apart_N4, scores_N, most_overlap)
    return kept


def _of_class(values_RK: Tensor, labels_R: Tensor) -> Tensor:
    """See `of_class`."""
    rest = values_RK.shape[2:]
    places = labels_R.reshape(-1, 1, *[1] * len(rest)).expand(-1, 1, *rest)
    return values_RK.gather(1, places)[:, 0]
