"""Events of a run, and functions to read them.

An event is a flat dict of JSON scalars with the key "event" ("train", "eval", "resumed", ...) and usually
"step" and "epoch". The keys are those of metrics.jsonl in the run folder.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from hornet_train.track.metric_table import NO_METRICS, MetricTable

Event = dict[str, Any]

# Numbers of an eval event that are not metrics.
_NOT_METRICS = frozenset({"step", "epoch", "loss", "count", "seconds", "images_per_second", "data_wait"})


_LARGEST = 1e40  # the axes of figures cannot cover the range of float64


class BestResult(NamedTuple):
    """The best result of a run by its headline metric, in that metric's unit."""

    metric: str
    value: float
    step: int
    epoch: float | None
    weights: str


def number(value: Any) -> float | None:
    """`value` as a float; None unless it is a finite number of at most about the range of float32. Booleans
    are not numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_LARGEST < value < _LARGEST:
        return None
    return float(value)


def eval_metrics(event: Mapping[str, Any], table: MetricTable = NO_METRICS) -> dict[str, float]:
    """The metrics of an eval event, the headline metric first: that of the table, else the event's first."""
    pairs = [(name, number(value)) for name, value in event.items() if name not in _NOT_METRICS]
    return table.headline_first({name: value for name, value in pairs if value is not None})


def shown_metrics(event: Mapping[str, Any], table: MetricTable = NO_METRICS) -> dict[str, float]:
    """`eval_metrics` without the details, which stand in files alone."""
    return {name: value for name, value in eval_metrics(event, table).items() if not table.info(name).detail}


def without_undone(events: Iterable[Event]) -> list[Event]:
    """The events without the `train` and `eval` events of steps that a rollback has undone."""
    valid: list[Event] = []
    for event in events:
        if event.get("event") == "rollback":
            step = number(event.get("step")) or 0.0
            valid = [
                one
                for one in valid
                if one.get("event") not in ("train", "eval") or (number(one.get("step")) or 0.0) <= step
            ]
        valid.append(event)
    return valid


def best_result(
    events: Iterable[Mapping[str, Any]], table: MetricTable = NO_METRICS, metric: str | None = None
) -> BestResult | None:
    """The best value of a metric over the eval events, the earliest of equal ones; None without any.

    An event with `lost_best` says that the checkpoint of the best so far was never written: from there on the
    best is that of its step `best`, or none, until a later evaluation is better.

    Args:
        table: has the headline metric, and whether more or less is better.
        metric: a metric instead of the headline.
    """
    best: BestResult | None = None
    of_step: dict[int, BestResult] = {}
    for event in events:
        if "lost_best" in event:
            best = of_step.get(int(number(event.get("best")) or -1))
        metrics = eval_metrics(event, table) if event.get("event") == "eval" else {}
        if not metrics or ("loss" in event and number(event["loss"]) is None):  # a diverged model is no best
            continue
        metric = metric or next(iter(metrics))
        better, value = table.info(metric).better, metrics.get(metric)
        if value is None:
            continue
        step = int(number(event.get("step")) or 0)
        found = BestResult(
            metric, value, step, number(event.get("epoch")), str(event.get("weights", "model"))
        )
        if step not in of_step or better(value, of_step[step].value):
            of_step[step] = found
        if better(value, best.value if best else None):
            best = found
    return best


def strict_json(event: Mapping[str, Any]) -> Event:
    """An event that strict JSON can represent: NaN and infinity become null, and are listed in "nonfinite".

    In a mapping within an event (norms by stage) too; these are listed as `norms.head` and so on.
    """
    nonfinite: dict[str, str] = {}

    def plain(values: Mapping[str, Any], prefix: str = "") -> Event:
        result: Event = {}
        for key, value in values.items():
            if isinstance(value, Mapping):
                value = plain(value, f"{prefix}{key}.")
            elif isinstance(value, float) and not math.isfinite(value):
                nonfinite[f"{prefix}{key}"] = str(value)
                value = None
            result[key] = value
        return result

    result = plain(event)
    return {**result, "nonfinite": nonfinite} if nonfinite else result


def scalars(event: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an event by the names that dashboards show: `train/loss`, `eval/ema/top1`."""
    prefix = str(event.get("event", "event"))
    if "weights" in event:
        prefix = f"{prefix}/{event['weights']}"
    return {
        f"{prefix}/{name}": float(value)  # NaN and infinity too: a dashboard should show where a run blew up
        for name, value in event.items()
        if name not in ("step", "epoch") and isinstance(value, int | float) and not isinstance(value, bool)
    }
