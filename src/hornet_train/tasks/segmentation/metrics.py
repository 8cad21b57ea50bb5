"""The metrics of segmentation, from counts of pixels: the confusion of labels and predictions.

Counts are integers, K + 1 rows of labels (the last one for labels out of range) by K columns of predictions.
Adding them up over pictures and processes is exact, whatever the order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hornet_train.track.metric_table import MetricInfo, MetricTable

IGNORED = 255  # the label of pixels that count nowhere
METRICS = MetricTable(
    (
        MetricInfo("miou", "mIoU", percent=True),
        MetricInfo("macc", "mAcc", percent=True),
        MetricInfo("aacc", "aAcc", percent=True),
        MetricInfo("mdice", "mDice", percent=True),
        MetricInfo("boundary_iou", "boundary IoU", percent=True),
    )
)

Floats = np.ndarray[Any, np.dtype[np.float64]]


def confusion(labels: Tensor, predicted: Tensor, classes: int, ignored: int = IGNORED) -> Tensor:
    """Pixels by label and prediction, int64 (classes + 1, classes), on the device, without waiting for it.

    Args:
        labels: integers of any shape; those out of 0..classes - 1 are in the last row.
        predicted: integers 0..classes - 1 of the same shape.
        classes: K.
        ignored: the label of pixels that are left out.
    """
    labels, predicted = labels.reshape(-1).long(), predicted.reshape(-1).long()
    known = (labels >= 0) & (labels < classes)
    cells = torch.where(known, labels, classes) * classes + predicted
    cells = torch.where(labels == ignored, (classes + 1) * classes, cells)  # one more, that is cut off
    counts = torch.zeros((classes + 1) * classes + 1, dtype=torch.int64, device=labels.device)
    counts.scatter_add_(0, cells, torch.ones_like(cells))
    return counts[:-1].view(classes + 1, classes)


@dataclass(frozen=True)
class ClassScores:
    """What each class came to, float64 (K,), as shares of 1; NaN where there is nothing to measure.

    The definitions are those of mmseg. A class in neither labels nor predictions has no IoU and no part in
    the means; one that is only predicted has IoU 0 and no accuracy.

    Attributes:
        labelled, predicted, right: pixels.
    """

    labelled: Floats
    predicted: Floats
    right: Floats

    @property
    def iou(self) -> Floats:
        """Intersection over union of the pixels labelled and those predicted."""
        return _divided(self.right, self.labelled + self.predicted - self.right)

    @property
    def accuracy(self) -> Floats:
        """The share of the labelled pixels that is predicted so: recall."""
        return _divided(self.right, self.labelled)

    @property
    def precision(self) -> Floats:
        """The share of the predicted pixels that is labelled so."""
        return _divided(self.right, self.predicted)

    @property
    def dice(self) -> Floats:
        """2 |A and B| / (|A| + |B|)."""
        return _divided(2 * self.right, self.labelled + self.predicted)

    @property
    def f_score(self) -> Floats:
        """The harmonic mean of precision and recall; NaN where either is."""
        return _divided(2 * self.precision * self.accuracy, self.precision + self.accuracy)

    @property
    def pixel_accuracy(self) -> float:
        """The share of all labelled pixels that is right."""
        return float(_divided(self.right.sum(keepdims=True), self.labelled.sum(keepdims=True))[0])


def class_scores(counts: Tensor) -> ClassScores:
    """The scores of each class, from counts as `confusion` gives them."""
    table = counts.cpu().numpy().astype(np.float64)
    return ClassScores(table[:-1].sum(1), table.sum(0), table[:-1].diagonal().copy())


def mean_over_classes(values: Floats) -> float:
    """The mean over the classes that have a value; NaN where none has."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def means(counts: Tensor) -> dict[str, float]:
    """miou, macc, aacc and mdice in per cent, from counts as `confusion` gives them."""
    scores = class_scores(counts)
    return {
        "miou": 100 * mean_over_classes(scores.iou),
        "macc": 100 * mean_over_classes(scores.accuracy),
        "aacc": 100 * scores.pixel_accuracy,
        "mdice": 100 * mean_over_classes(scores.dice),
    }


def _divided(above: Floats, below: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Floats = np.divide(above, below)
    return found
