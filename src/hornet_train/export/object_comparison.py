"""Whether an exported detector finds what the model finds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from hornet_train.dense.rcnn.boxes import iou
from hornet_train.dense.rcnn.suppression import Kept
from hornet_train.export.comparison import Comparison, speed_of

RunDetector = Callable[[Tensor, Sequence[tuple[int, int]]], list[tuple[Kept, Tensor | None]]]
"""Images and the sizes of the pictures in them to detections and the probabilities of their masks."""
Case = tuple[Tensor, tuple[int, int]]
CLEAR = 0.3  # score
_SAME = 0.9  # IoU from which on two boxes are of the same object


@torch.inference_mode()
def compare_objects(model: RunDetector, run: RunDetector, cases: Sequence[Case]) -> Comparison:
    """Let both find objects in the same images.

    Args:
        model: in evaluation mode, on the CPU.
        run: the export.
        cases: an image (1, C, H, W), and the picture's (height, width) in it.

    Returns:
        The largest difference is that of scores, of masks, and of boxes as a share of the image's longer
        side, between objects that both find. The share of the same objects is of those with a score of
        `CLEAR` or more: among others the last digit of a score may decide which of two that overlap is left.
    """
    largest, same, total = torch.zeros(()), 0, 0
    for image, picture in cases:
        ((expected, masks),), ((found, other_masks),) = model(image, [picture]), run(image, [picture])
        pairs = _pairs(expected, found)
        mine, theirs = pairs.unbind(1)
        boxes = (expected.boxes[mine] - found.boxes[theirs]) / max(image.shape[2:])
        parts = [boxes, expected.scores[mine] - found.scores[theirs]]
        if masks is not None and other_masks is not None:
            parts.append(masks[mine] - other_masks[theirs])
        for part in parts:
            if part.numel():  # of torch, whose maximum of NaN and a number is NaN
                largest = torch.maximum(largest, part.abs().max())
        both = int((expected.scores[mine] >= CLEAR).sum())
        same += both
        total += int((expected.scores >= CLEAR).sum()) + int((found.scores >= CLEAR).sum()) - both
    image, picture = cases[0]
    speed = speed_of(lambda one: model(one, [picture]), lambda one: run(one, [picture]), image)
    return Comparison(len(cases), largest.item(), same / total if total else 1.0, speed, 1, total)


def _pairs(expected: Kept, found: Kept) -> Tensor:
    """The places of objects that are the same in both, int64 (pairs, 2)."""
    overlaps = iou(expected.boxes, found.boxes)
    overlaps[expected.labels[:, None] != found.labels[None]] = 0
    pairs: list[Any] = []
    for place in range(len(expected.labels)):
        if not len(found.labels):
            break
        best = int(overlaps[place].argmax())
        if overlaps[place, best] >= _SAME:
            pairs.append((place, best))
            overlaps[:, best] = 0
    return torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
