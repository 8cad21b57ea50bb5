"""What an evaluation says of each class, for eval.json and for the console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hornet_train.tasks.detection.average_precision import Precision
from hornet_train.tasks.detection.metrics import KINDS, SUMMARY
from hornet_train.tasks.kit_types import Table
from hornet_train.track.events import strict_json


def per_class(
    precision: Mapping[str, Precision], counts: Sequence[int], classes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Class -> box_ap, and mask_ap where masks are measured, in per cent, and its objects.

    What cannot be measured is null.
    """
    return {
        name: strict_json(
            {
                **{f"{kind}_ap": float(found.per_class[label]) for kind, found in precision.items()},
                "objects": int(counts[label]),
            }
        )
        for label, name in enumerate(classes)
    }


def result_tables(result: Mapping[str, Any]) -> list[Table]:
    """Tables of what eval.json holds: COCO's twelve numbers, and the AP of each class."""
    kinds = [kind for kind in KINDS if f"{kind}_ap" in result]
    columns = ("model", "weights", "", *(label for _, label in SUMMARY), "pictures", "images/s")
    count = f"{result['count']:,}" + (f" ({result['bad']:,} could not be read)" if result["bad"] else "")
    speed = f"{result['images_per_second']:.1f}"
    rows = [
        (
            *((result["model"], result["weights"]) if place == 0 else ("", "")),
            kind,
            *(_number(result[f"{kind}_{key}"]) for key, _ in SUMMARY),
            *((count, speed) if place == 0 else ("", "")),
        )
        for place, kind in enumerate(kinds)
    ]
    of_classes = [
        (name, *(_number(one[f"{kind}_ap"]) for kind in kinds), f"{one['objects']:,}")
        for name, one in result["per_class"].items()
        if one["objects"]
    ]
    titles = ("class", *(f"{kind} AP" for kind in kinds), "objects")
    return [Table(str(result["checkpoint"]), columns, rows), Table("each class, in %", titles, of_classes)]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
