"""Figures of benchmark results."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from hornet_train.report import curve_panels
from hornet_train.track.durable_files import write_bytes


def draw_ratios(
    measured: Sequence[tuple[str, str, tuple[float, float, float]]], path: Path, title: str
) -> None:
    """Write a PNG with a panel a mode, in it a bar a model: its speed relative to the reference, which is 1.

    Args:
        measured: (mode, model, (ratio, lowest ratio, highest ratio)).
        path: of the PNG.
        title: above the panels.

    Raises:
        OSError: the PNG cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    modes = list(dict.fromkeys(mode for mode, _, _ in measured))
    max_bars = max(sum(row[0] == mode for row in measured) for mode in modes)
    figure = Figure(figsize=(9.0, 0.7 + len(modes) * (0.6 + 0.34 * max_bars)), dpi=130, layout="constrained")
    figure.suptitle(title, fontsize=9, color=curve_panels.INK)
    for axes, mode in zip(figure.subplots(len(modes), squeeze=False)[:, 0], modes, strict=True):
        rows = [(name, ratio) for row_mode, name, ratio in measured if row_mode == mode][::-1]
        values = [ratio[0] for _, ratio in rows]
        spread = [[ratio[0] - ratio[1] for _, ratio in rows], [ratio[2] - ratio[0] for _, ratio in rows]]
        positions = range(len(rows))
        axes.barh(
            positions, values, xerr=spread, color=curve_panels.MUTED, ecolor=curve_panels.INK, height=0.6
        )
        axes.set_yticks(positions, [name for name, _ in rows], fontsize=8)
        axes.axvline(1.0, color=curve_panels.INK, linewidth=0.8)
        for position, value in zip(positions, values, strict=True):
            axes.annotate(f" {value:.2f}", (0, position), va="center", fontsize=8, color="white")
        axes.set_title(mode, loc="left", fontsize=9, color=curve_panels.INK)
        axes.spines[["top", "right"]].set_visible(False)
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    write_bytes(path, file.getvalue())


def draw_growth(
    growths: Sequence[tuple[str, Sequence[int], Sequence[float]]], path: Path, title: str
) -> None:
    """Write a PNG with a panel a quantity: the time over its size.

    Args:
        growths: (name of the quantity, sizes, seconds).
        path: of the PNG.
        title: above the panels.

    Raises:
        OSError: the PNG cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = (len(growths) + 2) // 3
    figure = Figure(figsize=(9.0, 0.4 + 2.4 * rows), dpi=130, layout="constrained")
    figure.suptitle(title, fontsize=9, color=curve_panels.INK)
    grid = figure.subplots(rows, 3, squeeze=False).ravel()
    for axes, (quantity, sizes, seconds) in zip(grid, growths, strict=False):
        axes.plot(
            sizes, [1000 * value for value in seconds], marker="o", color=curve_panels.INK, linewidth=1.0
        )
        axes.set_ylim(0, 1100 * max(seconds))
        axes.set_xlim(0, 1.05 * max(sizes))
        axes.set_title(f"{quantity}, ms", loc="left", fontsize=9, color=curve_panels.INK)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in grid[len(growths) :]:
        axes.set_visible(False)
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    write_bytes(path, file.getvalue())
