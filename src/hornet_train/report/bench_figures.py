"""Ratios of a bench as a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from hornet_train.report import curve_panels
from hornet_train.track.files import write_bytes


def draw_ratios(
    measured: Sequence[tuple[str, str, tuple[float, float, float]]], path: Path, title: str
) -> None:
    """Write a PNG: for each mode a panel of bars, one a model, as long as it is fast; the reference is 1.

    Args:
        measured: (mode, model, (ratio, the least, the greatest)).

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    modes = list(dict.fromkeys(mode for mode, _, _ in measured))
    most = max(sum(one[0] == mode for one in measured) for mode in modes)
    figure = Figure(figsize=(9.0, 0.7 + len(modes) * (0.6 + 0.34 * most)), dpi=130, layout="constrained")
    figure.suptitle(title, fontsize=9, color=curve_panels.INK)
    for axes, mode in zip(figure.subplots(len(modes), squeeze=False)[:, 0], modes, strict=True):
        rows = [(name, ratio) for one, name, ratio in measured if one == mode][::-1]
        values = [ratio[0] for _, ratio in rows]
        spread = [[ratio[0] - ratio[1] for _, ratio in rows], [ratio[2] - ratio[0] for _, ratio in rows]]
        places = range(len(rows))
        axes.barh(places, values, xerr=spread, color=curve_panels.QUIET, ecolor=curve_panels.INK, height=0.6)
        axes.set_yticks(places, [name for name, _ in rows], fontsize=8)
        axes.axvline(1.0, color=curve_panels.INK, linewidth=0.8)
        for place, value in zip(places, values, strict=True):
            axes.annotate(f" {value:.2f}", (0, place), va="center", fontsize=8, color="white")
        axes.set_title(mode, loc="left", fontsize=9, color=curve_panels.INK)
        axes.spines[["top", "right"]].set_visible(False)
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    write_bytes(path, file.getvalue())


def draw_growth(
    growths: Sequence[tuple[str, Sequence[int], Sequence[float]]], path: Path, title: str
) -> None:
    """Write a PNG: a panel for each thing that grows, with the seconds of each size.

    Args:
        growths: (what grows, sizes, seconds).

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = (len(growths) + 2) // 3
    figure = Figure(figsize=(9.0, 0.4 + 2.4 * rows), dpi=130, layout="constrained")
    figure.suptitle(title, fontsize=9, color=curve_panels.INK)
    grid = figure.subplots(rows, 3, squeeze=False).ravel()
    for axes, (of, sizes, seconds) in zip(grid, growths, strict=False):
        axes.plot(sizes, [1000 * one for one in seconds], marker="o", color=curve_panels.INK, linewidth=1.0)
        axes.set_ylim(0, 1100 * max(seconds))
        axes.set_xlim(0, 1.05 * max(sizes))
        axes.set_title(f"{of}, ms", loc="left", fontsize=9, color=curve_panels.INK)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(growths) :]:
        axes.set_visible(False)
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    write_bytes(path, file.getvalue())
