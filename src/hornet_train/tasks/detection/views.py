"""Several views of a picture, scales and mirror images: what is found in each, put together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hornet_train.dense.rcnn.roi_head import RoiRules
from hornet_train.dense.rcnn.suppression import Kept, suppressed

View = tuple[Kept, Tensor | None]
"""Detections in pixels of the stored picture, and the probabilities of their masks, (D, S, S)."""


def unmirrored(view: View, width: int) -> View:
    """What was found in the mirror image of a picture so wide, in the picture itself."""
    kept, shares_DSS = view
    left, top, right, bottom = kept.boxes.unbind(1)
    boxes_D4 = torch.stack([width - right, top, width - left, bottom], dim=1)
    return kept._replace(boxes=boxes_D4), None if shares_DSS is None else shares_DSS.flip(2)


def merged(views: Sequence[View], rules: RoiRules) -> View:
    """All detections, suppressed class by class as those of one view are, and the best of these.

    An object that was found in several views has the box and the mask of the one with the highest score.
    """
    found = [kept for kept, _ in views]
    boxes, scores, labels, rows = (torch.cat(parts) for parts in zip(*found, strict=True))
    left = suppressed(boxes, scores, labels, rules.most_overlap)[: rules.most]
    shares = [one for _, one in views if one is not None]
    return Kept(boxes[left], scores[left], labels[left], rows[left]), torch.cat(shares)[
        left
    ] if shares else None
