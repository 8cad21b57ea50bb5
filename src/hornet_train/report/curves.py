"""Draw curves.png, the figure of a run, from its metrics.jsonl."""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hornet_train.errors import DataError
from hornet_train.file_names import as_text
from hornet_train.report import curve_panels
from hornet_train.track.durable_files import write_bytes
from hornet_train.track.events import BestResult, Event, best_result, number, without_undone
from hornet_train.track.metric_table import NO_METRICS, MetricTable
from hornet_train.track.sinks import read_events

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_log = logging.getLogger("hornet_train")

_STYLE: dict[str, Any] = {
    "font.size": 9.0,
    "text.parse_math": False,  # a $ in a name is plain text
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8.0,
    "axes.edgecolor": curve_panels.MUTED,
    "axes.labelcolor": curve_panels.MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": curve_panels.GRID,
    "text.color": curve_panels.INK,
    "xtick.color": curve_panels.MUTED,
    "ytick.color": curve_panels.MUTED,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.solid_capstyle": "round",
}


# of the panels, in shares of the figure: to find them by the sizes of all texts takes as long as to draw
_PLACES = {"left": 0.07, "right": 0.955, "bottom": 0.125, "top": 0.885, "wspace": 0.19, "hspace": 0.22}


def draw_curves(run_folder: str | Path, table: MetricTable = NO_METRICS, metric: str | None = None) -> Path:
    """Draw `<run folder>/curves.png`: losses, evaluation metrics with the best marked, learning rate, speed.

    The same events give the same bytes.

    Args:
        run_folder: the folder with metrics.jsonl.
        table: how the task's metrics are shown; metrics that are not in it are drawn as plain numbers.
        metric: the one that decides which result is best; None: the headline of the table, else the first
            in the eval events.

    Raises:
        DataError: the folder has no metrics.jsonl.
        OSError: curves.png cannot be written.
    """
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder = Path(run_folder)
    try:
        events = without_undone(read_events(folder / "metrics.jsonl"))
    except FileNotFoundError as fault:
        raise DataError(
            f"{folder} has no metrics.jsonl: it is not a run folder, or its run has not begun"
        ) from fault

    with matplotlib.style.context(["default", _STYLE]):  # whatever a user's matplotlibrc says
        figure = Figure(figsize=(10.5, 6.4), dpi=150)
        canvas = FigureCanvasAgg(figure)
        axes = figure.subplots(2, 2, sharex=True, height_ratios=(2.2, 1), gridspec_kw=_PLACES)
        best = best_result(events, table, metric)
        steps_per_epoch = _steps_per_epoch(events)
        _limit_x(axes[0, 0], events, steps_per_epoch)  # before the best is labelled within it
        curve_panels.draw_losses(axes[0, 0], events, steps_per_epoch)
        curve_panels.draw_metrics(axes[0, 1], events, steps_per_epoch, best, table)
        curve_panels.draw_rate(axes[1, 0], events, steps_per_epoch)
        curve_panels.draw_speed(axes[1, 1], events, steps_per_epoch)
        for ax in axes[1]:
            if steps_per_epoch:
                _step_axis(ax, steps_per_epoch)
            else:
                ax.set_xlabel("step")
        figure.suptitle(_title(folder, best, table), x=0.012, ha="left", fontsize=11.5, fontweight="bold")
        png = io.BytesIO()
        canvas.print_png(png, metadata={"Software": None})
    path = folder / "curves.png"
    write_bytes(path, png.getvalue())
    return path


class CurvesSink:
    """Redraws curves.png after evaluations, at most every `min_seconds`, and at the end: once for a run that
    takes less.

    It reads metrics.jsonl, so among the sinks of a run it must come after the JsonlSink.
    """

    def __init__(
        self, run_folder: str | Path, table: MetricTable = NO_METRICS, min_seconds: float = 60.0
    ) -> None:
        self._folder = Path(run_folder)
        self._table = table
        self._min_seconds = min_seconds
        self._last_drawn = time.monotonic()
        self._stale = True

    def write(self, event: Mapping[str, Any]) -> None:
        """Draw if this is an eval event and the last drawing is at least `min_seconds` ago."""
        self._stale = True
        if event.get("event") == "eval" and time.monotonic() - self._last_drawn >= self._min_seconds:
            self._draw()

    def close(self) -> None:
        """Draw again if events have come since the last drawing."""
        if self._stale:
            self._draw()

    def _draw(self) -> None:
        self._stale = False
        try:
            draw_curves(self._folder, self._table)
        except (OSError, ValueError, DataError) as fault:  # a failed drawing must not end a run
            _log.warning("curves.png cannot be drawn: %s", fault)
        self._last_drawn = time.monotonic()


def _steps_per_epoch(events: Sequence[Event]) -> float | None:
    """Steps per epoch, from the last event with step and epoch: the later, the smaller the rounding error.

    None where there is none, and where the batch size has changed, so that there is no single one.
    """
    both = [(number(event.get("step")), number(event.get("epoch"))) for event in events]
    known = [(step, epoch) for step, epoch in both if step and epoch]
    if not known:
        return None
    each = known[-1][0] / known[-1][1]
    return each if all(abs(step / each - epoch) < 0.01 for step, epoch in known) else None


def _limit_x(ax: Axes, events: Sequence[Event], steps_per_epoch: float | None) -> None:
    """End the x axis a little after the last event."""
    last = max(
        (
            curve_panels.x_position(step, steps_per_epoch)
            for e in events
            if (step := number(e.get("step"))) is not None
        ),
        default=0.0,
    )
    if last > 0:
        ax.set_xlim(0, last * 1.02)


def _step_axis(ax: Axes, steps_per_epoch: float) -> None:
    """Add a second x axis in steps below the one in epochs."""
    from matplotlib.ticker import MaxNLocator

    def to_steps(epochs: Any) -> Any:
        return epochs * steps_per_epoch

    def to_epochs(steps: Any) -> Any:
        return steps / steps_per_epoch

    below = ax.secondary_xaxis(-0.2, functions=(to_steps, to_epochs))
    below.tick_params(labelsize=7.5, length=0, labelcolor=curve_panels.MUTED)
    below.spines["bottom"].set_visible(False)
    below.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
    below.xaxis.set_major_formatter("{x:,.0f}")
    below.set_xlabel("epoch / step", labelpad=3)


def _title(folder: Path, best: BestResult | None, table: MetricTable) -> str:
    """The name of the run folder, and the best result if there is one."""
    run = as_text(folder.resolve().name)
    if best is None:
        return run
    epoch = f"epoch {best.epoch:.4g}, " if best.epoch is not None else ""
    info = table.info(best.metric)
    result = f"best {info.label} {curve_panels.value_text(info, best.value)}"
    return f"{run}: {result} ({curve_panels.weights_name(best.weights)}, {epoch}step {best.step:,})"
