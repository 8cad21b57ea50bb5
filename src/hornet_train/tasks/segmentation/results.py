"""What an evaluation says of each class, for eval.json and for the console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from hornet_train.tasks.kit_types import Table
from hornet_train.tasks.segmentation.boundaries import boundary_iou
from hornet_train.tasks.segmentation.metrics import METRICS, class_scores
from hornet_train.track.events import strict_json

_CONFUSED = 3  # pairs of classes in a note


def per_class(counts: Tensor, boundaries: Tensor, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Class -> iou, accuracy, precision, dice and boundary_iou in per cent, and the labelled pixels.

    What cannot be measured is null.
    """
    scores, near = class_scores(counts), boundary_iou(boundaries)
    columns = {
        "iou": scores.iou,
        "accuracy": scores.accuracy,
        "precision": scores.precision,
        "dice": scores.dice,
        "boundary_iou": near,
    }
    return {
        name: strict_json(
            {
                **{key: 100 * float(values[label]) for key, values in columns.items()},
                "pixels": int(scores.labelled[label]),
            }
        )
        for label, name in enumerate(classes)
    }


def result_tables(result: Mapping[str, Any]) -> list[Table]:
    """Tables of what eval.json holds: the means, and each class."""
    columns = ("model", "weights", *(row.label for row in METRICS.rows), "loss", "count", "images/s")
    values = [_number(result[row.key]) for row in METRICS.rows]
    loss = "nan" if result["loss"] is None else f"{result['loss']:.4f}"
    count = f"{result['count']:,}" + (f" ({result['bad']:,} could not be read)" if result["bad"] else "")
    speed = f"{result['images_per_second']:.1f}"
    whole = (result["model"], result["weights"], *values, loss, count, speed)
    rows = [
        (
            name,
            *(_number(one[key]) for key in ("iou", "accuracy", "precision", "dice", "boundary_iou")),
            f"{one['pixels']:,}",
        )
        for name, one in result["per_class"].items()
        if one["iou"] is not None  # neither in masks nor in predictions
    ]
    of_classes = ("class", "IoU", "accuracy", "precision", "Dice", "boundary IoU", "pixels")
    return [Table(str(result["checkpoint"]), columns, [whole]), Table("each class, in %", of_classes, rows)]


def most_confused(counts: Tensor, classes: Sequence[str]) -> list[str]:
    """A sentence for each of the most frequent confusions: which class is taken for which, and how often."""
    table = counts[:-1].double()
    shares = table / table.sum(1, keepdim=True).clamp(min=1)
    shares.fill_diagonal_(0)
    found = []
    for place in shares.flatten().argsort(descending=True, stable=True)[:_CONFUSED].tolist():
        label, taken = divmod(place, len(classes))
        if shares[label, taken] > 0:
            found.append(
                f"{float(shares[label, taken]):.1%} of {classes[label]} is taken for {classes[taken]}"
            )
    return found


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
