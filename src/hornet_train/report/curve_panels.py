"""Draw the panels of curves.png, each by a function of its axes and the events.

`steps_per_epoch` is None where it is not known; the x axis is then in steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from hornet_train.track.events import BestResult, Event, number, shown_metrics
from hornet_train.track.metric_table import MetricInfo, MetricTable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Curve = tuple[list[float], list[float]]  # x and y

INK, MUTED, GRID = "#22262b", "#6b7280", "#e5e7eb"
_TRAIN = "#9aa5b1"
_METRIC_COLOURS = ("#0b6e99", "#d9822b", "#5a8f3c", "#8a4fa3", "#b23a48", "#3d5a80")  # one a metric, in turn
_LOSS, _RATE, _SPEED, _WAIT = "#b23a48", "#5a8f3c", "#0b6e99", "#d9822b"
# a line style for each kind of weights; solid for the averaged ones, which are the result of a run
_LINES: dict[str, dict[str, Any]] = {
    "ema": {"linestyle": "-", "linewidth": 1.8},
    "model": {"linestyle": (0, (3, 1.6)), "linewidth": 1.1, "alpha": 0.8},
}
_LINES_OF_LEGEND = 6  # of which there may be more, smaller and in two columns
_STAR: dict[str, Any] = {"marker": "*", "markersize": 12, "mec": "white", "mew": 0.8}
_WEIGHTS = {"model": "current weights", "ema": "averaged weights"}


def draw_losses(ax: Axes, events: Sequence[Event], steps_per_epoch: float | None) -> None:
    """The training loss, raw and smoothed, and the losses of the evaluations."""
    ax.set_title("loss")
    x, y = series(events, "train", "loss", steps_per_epoch)
    many = len(y) > 40
    if many:
        ax.plot(x, y, color=_TRAIN, linewidth=0.7, alpha=0.45)
    ax.plot(
        x, _smooth(y) if many else y, color=_TRAIN, linewidth=1.6, label="training", **_marker_if_single(y)
    )
    for weights, group in _by_weights(events).items():
        x, y = series(group, "eval", "loss", steps_per_epoch)
        if not len(y):  # a task whose evaluations have no loss
            continue
        style = _LINES.get(weights, _LINES["model"])
        ax.plot(
            x, y, color=_LOSS, label=f"evaluation, {weights_name(weights)}", **_marker_if_single(y), **style
        )
    _legend_or_note(ax, "no train event yet", loc="upper right")


def draw_metrics(
    ax: Axes,
    events: Sequence[Event],
    steps_per_epoch: float | None,
    best: BestResult | None,
    table: MetricTable,
) -> None:
    """The metrics of the evaluations, of any task, with the best result marked."""
    groups = _by_weights(events)
    metrics = list(
        dict.fromkeys(n for group in groups.values() for event in group for n in shown_metrics(event, table))
    )
    if best is not None:
        metrics.sort(key=lambda metric: metric != best.metric)  # the one that decides the best first
    percent = all(table.info(metric).percent for metric in metrics)
    ax.set_title("evaluation, %" if percent else "evaluation")
    curves = {
        (m, w): series(group, "eval", m, steps_per_epoch) for m in metrics for w, group in groups.items()
    }
    inset = None
    if best is not None:
        _limit_y(ax, [y for _, ys in curves.values() for y in ys], percent)
        inset = _inset(ax, curves, best.metric)
    for panel in [ax] if inset is None else [ax, inset]:
        for (metric, weights), (x, y) in curves.items():
            i = metrics.index(metric)
            line = {**_LINES.get(weights, _LINES["model"]), **_marker_if_single(y), "zorder": 3 - 0.1 * i}
            words = table.info(metric).label
            label = f"{words}, {weights_name(weights)}" if len(groups) > 1 else words
            panel.plot(x, y, color=_METRIC_COLOURS[i % len(_METRIC_COLOURS)], label=label, **line)
        if best is not None:
            panel.plot(
                x_position(best.step, steps_per_epoch),
                best.value,
                color=_METRIC_COLOURS[0],
                zorder=5,
                **_STAR,
            )
    if best is not None:
        _mark_best(inset or ax, best, x_position(best.step, steps_per_epoch), table.info(best.metric))
    _legend_or_note(
        ax,
        "no evaluation yet",
        loc="best" if inset is None else "lower right",
        ncols=1 if inset is None and len(curves) <= _LINES_OF_LEGEND else 2,
    )


def _limit_y(ax: Axes, values: Sequence[float], percent: bool) -> None:
    """Limit y to the range of the values, with room above for the mark of the best one."""
    low, high = min(values), max(values)
    span = max(high - low, 5.0 if percent else 0.1 * abs(high), 1e-9)
    ax.set_ylim(low - 0.06 * span, high + 0.13 * span)
    if percent:  # no tick label above 100%, although the axis may go there
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}" if value <= 100 else "")


def _inset(ax: Axes, curves: Mapping[tuple[str, str], Curve], headline: str) -> Axes | None:
    """An enlarged view of the last half of the headline metric, which looks flat in the full curve.

    It is placed below the ends of the curves; None if a curve passes through that place.
    """
    start = max(x for xs, _ in curves.values() for x in xs) / 2
    late = [
        (metric, y)
        for (metric, _), curve in curves.items()
        for x, y in zip(*curve, strict=True)
        if x >= start
    ]
    low, high = ax.get_ylim()
    if min(y for _, y in late) < low + 0.82 * (high - low):
        return None
    values = [y for metric, y in late if metric == headline]
    span = max(values) - min(values)
    if len(values) < 4 or span == 0:
        return None
    inset = ax.inset_axes((0.42, 0.3, 0.55, 0.42))
    inset.set_xlim(start, start * 2.06)
    inset.set_ylim(min(values) - 0.15 * span, max(values) + 0.4 * span)
    inset.tick_params(labelsize=7, length=2)
    inset.set_title("last half", fontsize=8, fontweight="normal", color=MUTED, pad=3)
    return inset


def _mark_best(ax: Axes, best: BestResult, x: float, info: MetricInfo) -> None:
    """Write the best value beside its star: above a maximum, below a minimum."""
    above = info.direction == "max"
    left, right = ax.get_xlim()
    position = (x - left) / ((right - left) or 1.0)
    ax.annotate(
        f"best {value_text(info, best.value)}",
        (x, best.value),
        xytext=(0, 7 if above else -7),
        textcoords="offset points",
        ha="left" if position < 0.15 else "right" if position > 0.85 else "center",
        va="bottom" if above else "top",
        fontsize=9,
        fontweight="bold",
        color=_METRIC_COLOURS[0],
        zorder=6,
    )


def draw_rate(ax: Axes, events: Sequence[Event], steps_per_epoch: float | None) -> None:
    """The learning rate over the run."""
    ax.set_title("learning rate")
    x, y = series(events, "train", "lr", steps_per_epoch)
    ax.plot(x, y, color=_RATE, linewidth=1.6, **_marker_if_single(y))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set_ylim(bottom=0)


def draw_speed(ax: Axes, events: Sequence[Event], steps_per_epoch: float | None) -> None:
    """Images per second as a line, and behind it the share of time spent waiting for data as an area."""
    ax.set_title("images per second", color=_SPEED)
    x, y = series(events, "train", "images_per_second", steps_per_epoch)
    ax.plot(x, y, color=_SPEED, linewidth=1.2, **_marker_if_single(y))
    ax.set_ylim(0, 1.15 * max(y, default=1.0) or 1.0)
    ax.yaxis.set_major_formatter("{x:,.0f}")
    wait = ax.twinx()
    wait.set_title("waiting for data, %", loc="right", color=_WAIT)
    x, y = series(events, "train", "data_wait", steps_per_epoch)
    percent = [100 * v for v in y]
    wait.fill_between(x, percent, color=_WAIT, alpha=0.35, linewidth=0)
    if len(x) == 1:
        wait.plot(x, percent, color=_WAIT, **_marker_if_single(y))
    wait.set_ylim(0, 100)
    wait.grid(False)
    wait.set_zorder(ax.get_zorder() - 1)
    ax.patch.set_visible(False)


def series(events: Sequence[Event], kind: str, key: str, steps_per_epoch: float | None) -> Curve:
    """x and y of the events of a kind in which `key` is a finite number."""
    points = [
        (x_position(event["step"], steps_per_epoch), value)
        for event in events
        if event.get("event") == kind and "step" in event and (value := number(event.get(key))) is not None
    ]
    return [x for x, _ in points], [y for _, y in points]


def x_position(step: float, steps_per_epoch: float | None) -> float:
    """The position of a step on the x axis: in epochs if `steps_per_epoch` is known, else in steps."""
    return step / steps_per_epoch if steps_per_epoch else step


def value_text(info: MetricInfo, value: float) -> str:
    """A metric's value with its unit."""
    return f"{value:.2f}%" if info.percent else f"{value:.4g}"


def weights_name(key: str) -> str:
    """The name of the weights that an eval event is about, for people to read."""
    return _WEIGHTS.get(key, key.replace("_", " "))


def _by_weights(events: Sequence[Event]) -> dict[str, list[Event]]:
    """The eval events grouped by their weights, averaged weights first."""
    evals = [event for event in events if event.get("event") == "eval"]
    kinds = sorted({str(event.get("weights", "model")) for event in evals})
    return {kind: [e for e in evals if str(e.get("weights", "model")) == kind] for kind in kinds}


def _smooth(values: Sequence[float]) -> list[float]:
    """A centred moving mean over a thirtieth of the curve, over less towards its ends."""
    reach = max(1, len(values) // 60)
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    half = np.minimum(np.minimum(index, index[::-1]), reach)
    mean: list[float] = ((total[index + half + 1] - total[index - half]) / (2 * half + 1)).tolist()
    return mean


def _marker_if_single(values: Sequence[float]) -> dict[str, Any]:
    """Line options for a curve of one point, which needs a marker to be visible."""
    return {"marker": "o", "markersize": 4} if len(values) == 1 else {}


def _legend_or_note(ax: Axes, note: str, loc: str, ncols: int = 1) -> None:
    """Draw the legend, or, in an empty panel, the note."""
    if any(np.size(line.get_xdata()) for line in ax.get_lines()):
        many = len(ax.get_legend_handles_labels()[0]) > _LINES_OF_LEGEND
        ax.legend(loc=loc, ncols=ncols, fontsize="x-small" if many else None)
    else:
        for line in list(ax.get_lines()):
            line.remove()
        ax.text(0.5, 0.5, note, transform=ax.transAxes, ha="center", va="center", color=MUTED)
