"""A two-stage detector: a backbone, a feature pyramid, proposals, and heads on regions of interest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from hornet_train.dense.backbone import features_of, strides_of, widths_of
from hornet_train.dense.horfpn import Fusing, HorFPN
from hornet_train.dense.rcnn import box_head, mask_head
from hornet_train.dense.rcnn.anchors import STRIDES, Anchors
from hornet_train.dense.rcnn.box_head import BoxHead
from hornet_train.dense.rcnn.mask_head import MaskHead
from hornet_train.dense.rcnn.matching import mixed_seed
from hornet_train.dense.rcnn.proposals import LossSum, RpnHead, RpnRules
from hornet_train.dense.rcnn.regions import Objects, Picture
from hornet_train.dense.rcnn.roi_head import CASCADE, RoiHead, RoiRules
from hornet_train.dense.rcnn.roi_training import roi_losses
from hornet_train.dense.rcnn.suppression import Kept

LEVELS = 4  # of the backbone that are used, as published of strides 4 to 32
_DRAWS = 8  # of a picture in a step, at most: one of anchors, one a stage


@dataclass(frozen=True)
class DetectorRules:
    """What is done with the outputs of the heads: settings without weights."""

    rpn: RpnRules = field(default_factory=RpnRules)
    roi: RoiRules = field(default_factory=RoiRules)


def cascade_rules() -> DetectorRules:
    """Those of the published cascades."""
    rpn = RpnRules(border=0, beta=1 / 9, after=2000)
    return DetectorRules(rpn, RoiRules(stages=CASCADE))


class Detector(nn.Module):
    """Boxes of objects, and their masks. Names are those of the published checkpoints.

    Args:
        backbone: see `build_backbone`; its last four levels are used, of strides 4 to 32, as published,
            or 2 to 16: then anchors and regions of half the size go to each level.
        num_classes: K.
        mixer: of the pyramid, see `HorFPN`.
        cascade: three stages, with convolutions in the box heads, as published; else the one of Mask R-CNN.
        masks: whether masks are found, too.
        channels: of the pyramid.
        width: of the box heads' fully connected layers.

    Raises:
        ValueError: the backbone's levels have other strides.
    """

    def __init__(
        self,
        backbone: nn.Module,
        num_classes: int,
        *,
        mixer: Fusing = "conv",
        cascade: bool = False,
        masks: bool = True,
        channels: int = 256,
        width: int = 1024,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        strides = _used_strides(backbone)
        self.neck = HorFPN(widths_of(backbone)[-LEVELS:], channels, 5, mixer)
        self.rpn_head = RpnHead(channels)
        if cascade:
            boxes = [BoxHead(num_classes, "4conv1fc", channels=channels, width=width) for _ in CASCADE]
            of_masks = nn.ModuleList(MaskHead(num_classes, channels=channels) for _ in CASCADE)
            self.roi_head = RoiHead(nn.ModuleList(boxes), of_masks if masks else None, strides)
        else:
            box = BoxHead(num_classes, "2fc", channels=channels, width=width)
            of_mask = MaskHead(num_classes, channels=channels) if masks else None
            self.roi_head = RoiHead(box, of_mask, strides)
        self.rules = cascade_rules() if cascade else DetectorRules()
        anchors = Anchors((*strides, 2 * strides[-1]))
        self.rules = replace(self.rules, rpn=replace(self.rules.rpn, anchors=anchors))

    def forward(
        self,
        images: Tensor,
        pictures: Sequence[Picture],
        objects: Sequence[Objects] | None = None,
        seeds: Sequence[int] | None = None,
        scales: Sequence[tuple[float, float]] | None = None,
    ) -> dict[str, LossSum] | list[tuple[Kept, Tensor | None]]:
        """Losses where objects are given, else detections.

        Args:
            images: (B, 3, H, W).
            pictures: (height, width) of each without its padding.
            objects: of each picture.
            seeds: of what is drawn for each, with `objects`.
            scales: pixels that one of the stored picture has here, across and down; for detections.

        Returns:
            Name -> sum and count of each loss; or of each picture its detections and the probabilities of
            their masks, (D, 28, 28), or None.
        """
        levels = self.neck(features_of(self.backbone, images)[-LEVELS:])
        outputs = self.rpn_head(levels)
        if objects is None:
            proposals = [boxes for boxes, _ in self.rules.rpn.propose(outputs, pictures, training=False)]
            return self._detect(levels, proposals, pictures, scales)
        assert seeds is not None
        of_objects, of_changes = self.rules.rpn.losses(
            *(outputs, [one.boxes for one in objects], pictures),
            [mixed_seed(seed, _DRAWS) for seed in seeds],
        )
        proposals = [boxes for boxes, _ in self.rules.rpn.propose(outputs, pictures, training=True)]
        losses, _ = roi_losses(self.roi_head, levels, proposals, objects, pictures, seeds, self.rules.roi)
        return {"loss_rpn_cls": of_objects, "loss_rpn_bbox": of_changes, **losses}

    def _detect(
        self,
        levels: Sequence[Tensor],
        proposals: Sequence[Tensor],
        pictures: Sequence[Picture],
        scales: Sequence[tuple[float, float]] | None,
    ) -> list[tuple[Kept, Tensor | None]]:
        scales = scales or [(1.0, 1.0)] * len(pictures)
        found = self.roi_head.detect(levels, proposals, pictures, scales, self.rules.roi)
        if not self.roi_head.mask_heads:
            return [(one, None) for one in found]
        return list(zip(found, self.roi_head.masks(levels, found, scales), strict=True))

    def forward_all(self, images: Tensor, regions: int = 1000, masks: int = 100) -> None:
        """Run every layer, the heads on so many regions of zeros, to count what they cost."""
        levels = self.neck(features_of(self.backbone, images)[-LEVELS:])
        self.rpn_head(levels)
        channels = levels[0].shape[1]
        for heads, number, side in (
            (self.roi_head.box_heads, regions, box_head.SIDE),
            (self.roi_head.mask_heads, masks, mask_head.SIDE),
        ):
            for head in heads:
                head(levels[0].new_zeros(number, channels, side, side))


def _used_strides(backbone: nn.Module) -> tuple[int, ...]:
    """Those of the levels that a detector uses.

    Raises:
        ValueError: they are not as `Detector` takes them.
    """
    found = strides_of(backbone)[-LEVELS:]
    if found not in (STRIDES[:LEVELS], tuple(stride // 2 for stride in STRIDES[:LEVELS])):
        raise ValueError(
            f"its maps have strides {', '.join(map(str, strides_of(backbone)))}; "
            "a detector needs 4, 8, 16 and 32, or 2, 4, 8 and 16"
        )
    return found
