"""The results of an evaluation: as JSON, and as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hornet_train.tasks.classification.suites import corruption_errors
from hornet_train.tasks.classification.suites.corruptions import ALEXNET, SEVERITIES
from hornet_train.tasks.kit_types import Table
from hornet_train.track.events import strict_json

MEANS = ("top1", "top5", "loss")


def summary(name: str, parts: Mapping[str, Mapping[str, float]], left_out: int = 0) -> dict[str, Any]:
    """The result of one set from those of its parts.

    Args:
        name: of the set.
        parts: part -> `top1`, `top5` (per cent), `loss` and `count`; `bad` where some could not be read.
        left_out: images that were not counted.

    Returns:
        `top1`, `top5`, `loss` over all images, `count`, `bad`; `left_out` where it is not 0. ImageNet-C has
        `mce` and `corruptions` besides (see `corruption_errors`), and the means are over the 15 corruptions
        of mCE, or over the others where only these are there.
    """
    more: dict[str, Any] = {"left_out": left_out} if left_out else {}
    bad = round(sum(metrics.get("bad", 0) for metrics in parts.values()))
    if name == "imagenet_c":
        errors = corruption_errors({part: metrics["top1"] for part, metrics in parts.items()})
        more |= {"mce": errors["mce"], "missing": errors["missing"], "corruptions": errors["corruptions"]}
        parts = {part: m for part, m in parts.items() if part.split("/")[0] in ALEXNET} or parts
    count = round(sum(metrics["count"] for metrics in parts.values()))
    means = {
        metric: sum(metrics[metric] * metrics["count"] for metrics in parts.values()) / count
        for metric in MEANS
    }
    return strict_json({**means, "count": count, "bad": bad, **more})


def result_tables(result: Mapping[str, Any]) -> list[Table]:
    """Tables of what eval.json holds."""
    several = "suites" in result
    sets: Mapping[str, Mapping[str, Any]] = result["suites"] if several else {result["data"]: result}
    rows = [(name, *_row(one)) for name, one in sets.items()]
    title, speed = str(result["checkpoint"]), f"{result['images_per_second']:.1f}"
    columns = ("top-1", "top-5", "loss", "count")
    if several:
        title += f": {result['model']}, {result['weights']} weights, {speed} images/s"
        tables = [Table(title, ("set", *columns), rows)]
    else:
        row = (result["model"], result["weights"], *rows[0][1:], speed)
        tables = [Table(title, ("model", "weights", *columns, "images/s"), [row])]
    return tables + [_corruption_table(name, one) for name, one in sets.items() if "corruptions" in one]


def _corruption_table(name: str, one: Mapping[str, Any]) -> Table:
    """The mean error of each corruption, its CE, and the top-1 by severity."""
    rows = [
        (
            corruption,
            *(f"{value:.2f}" if value is not None else "-" for value in (found["error"], found["ce"])),
            *(f"{top1:.2f}" for top1 in found["severities"]),
        )
        for corruption, found in one["corruptions"].items()
    ]
    mce = f"mCE {one['mce']:.2f}" if one["mce"] is not None else f"no mCE without {', '.join(one['missing'])}"
    columns = ("corruption", "error", "CE", *(f"top-1 at {severity}" for severity in SEVERITIES))
    return Table(f"{name}: {mce}", columns, rows)


def _row(one: Mapping[str, Any]) -> tuple[str, ...]:
    """Top-1, top-5, loss and count; a loss that is no number is null in JSON."""
    loss = "nan" if one["loss"] is None else f"{one['loss']:.4f}"
    count = f"{one['count']:,}" + (f" ({one['bad']:,} could not be read)" if one["bad"] else "")
    return f"{one['top1']:.3f}", f"{one['top5']:.3f}", loss, count
