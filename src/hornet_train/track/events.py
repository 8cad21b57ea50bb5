"""What an event is, and how to read one.

An event is a flat dict of JSON scalars with the keys "event" ("train", "eval", "resumed", ...) and mostly
"step" and "epoch". The names are those of the run folder's metrics.jsonl (DESIGN.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from hornet_train.track.metric_table import NO_METRICS, MetricTable

Event = dict[str, Any]

# What an eval event says beside its metrics.
_NOT_METRICS = frozenset({"step", "epoch", "loss", "count", "seconds", "images_per_second", "data_wait"})


_LARGEST = 1e40  # figures cannot be drawn of all that a float64 holds


class BestResult(NamedTuple):
    """The best result of a run by its headline metric, in that metric's unit."""

    metric: str
    value: float
    step: int
    epoch: float | None
    weights: str


def number(value: Any) -> float | None:
    """`value` as a finite float; None for anything else, booleans among them, and beyond what float32 has."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_LARGEST < value < _LARGEST:
        return None
    return float(value)


def eval_metrics(event: Mapping[str, Any], table: MetricTable = NO_METRICS) -> dict[str, float]:
    """The metrics of an eval event, headline first: the table's, else the first that the event names."""
    pairs = [(name, number(value)) for name, value in event.items() if name not in _NOT_METRICS]
    return table.headline_first({name: value for name, value in pairs if value is not None})


def course(events: Iterable[Event]) -> list[Event]:
    """The events without what a run did before it went back: the `train` and `eval` events of later steps."""
    kept: list[Event] = []
    for event in events:
        if event.get("event") == "rollback":
            step = number(event.get("step")) or 0.0
            kept = [
                one
                for one in kept
                if one.get("event") not in ("train", "eval") or (number(one.get("step")) or 0.0) <= step
            ]
        kept.append(event)
    return kept


def best_result(
    events: Iterable[Mapping[str, Any]], table: MetricTable = NO_METRICS, metric: str | None = None
) -> BestResult | None:
    """The best value of a metric over the eval events (the earliest of equals), or None before the first.

    Args:
        table: tells the headline metric, and which way is better.
        metric: another than the headline.
    """
    best: BestResult | None = None
    for event in events:
        metrics = eval_metrics(event, table) if event.get("event") == "eval" else {}
        if not metrics:
            continue
        metric = metric or next(iter(metrics))
        value = metrics.get(metric)
        if value is not None and table.info(metric).better(value, best.value if best else None):
            weights = str(event.get("weights", "model"))
            step = int(number(event.get("step")) or 0)
            best = BestResult(metric, value, step, number(event.get("epoch")), weights)
    return best


def strict(event: Mapping[str, Any]) -> Event:
    """What strict JSON can say: a NaN or infinity becomes null, and is told under "nonfinite".

    Of a mapping within an event (norms by stage) likewise, under `norms.head` and so on.
    """
    told: dict[str, str] = {}

    def plain(values: Mapping[str, Any], prefix: str = "") -> Event:
        result: Event = {}
        for key, value in values.items():
            if isinstance(value, Mapping):
                value = plain(value, f"{prefix}{key}.")
            elif isinstance(value, float) and not math.isfinite(value):
                told[f"{prefix}{key}"] = str(value)
                value = None
            result[key] = value
        return result

    result = plain(event)
    return {**result, "nonfinite": told} if told else result


def scalars(event: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an event under the names that dashboards show: `train/loss`, `eval/ema/top1`."""
    prefix = str(event.get("event", "event"))
    if "weights" in event:
        prefix = f"{prefix}/{event['weights']}"
    return {
        f"{prefix}/{name}": float(value)  # NaN and infinity too: a dashboard should show where a run blew up
        for name, value in event.items()
        if name not in ("step", "epoch") and isinstance(value, int | float) and not isinstance(value, bool)
    }
