"""Figures of an evaluation: the pictures with most mistakes, and precision over recall of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hornet_train.images.palette import object_colours
from hornet_train.tasks.detection.average_precision import Precision
from hornet_train.tasks.detection.gallery import Seen
from hornet_train.tasks.detection.mistakes import LEAST_SCORE
from hornet_train.tasks.figure_style import INK, MUTED, new_figure, plain, short, write_figure

_MOST_CLASSES = 24  # in the figure of curves
_CAPTION = 52  # characters above a picture


def draw_worst(worst: Sequence[Seen], path: Path, title: str) -> None:
    """A PNG of the pictures with most mistakes: with their objects, and with what was found.

    Raises:
        OSError: it cannot be written.
    """
    across = 2 if len(worst) > 2 else 1
    rows = -(-len(worst) // across)
    tall = min(1.5, max(seen.views[0].shape[0] / seen.views[0].shape[1] for seen in worst))
    figure = new_figure((6.4 * across, rows * (3.1 * tall + 0.32) + 0.7))
    figure.suptitle(
        f"{title}\nleft: truth, red if missed; right: found with a score of at least {LEAST_SCORE}, red if a "
        "false alarm",
        fontsize=9, color=INK,
    )  # fmt: skip
    grid = figure.subplots(rows, 2 * across, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for place, seen in enumerate(worst):
        row, column = divmod(place, across)
        where = seen.where if len(seen.where) <= _CAPTION else "…" + seen.where[1 - _CAPTION :]
        for view, (pixels, text) in enumerate(zip(seen.views, (where, seen.about), strict=True)):
            axes = grid[row, 2 * column + view]
            axes.imshow(pixels, interpolation="antialiased")
            axes.set_title(text, fontsize=5.5, pad=2, color=INK)
    write_figure(figure, path)


def draw_precision(
    precision: Mapping[str, Precision], counts: Sequence[int], classes: Sequence[str], path: Path, title: str
) -> None:
    """A PNG with precision over recall at IoU .5 of each class, of boxes and of masks.

    Args:
        precision: kind -> what was measured.
        counts: objects of each class; at most so many classes are drawn, the most frequent ones.
        classes: names.
        path: of the file.
        title: above.

    Raises:
        OSError: it cannot be written.
    """
    order = [int(one) for one in np.argsort(-np.asarray(counts), kind="stable") if counts[one]]
    order = sorted(order[:_MOST_CLASSES])
    figure = new_figure((4.2 * len(precision) + 1.6, 4.0))
    figure.suptitle(title, fontsize=9, color=INK)
    panels = figure.subplots(1, len(precision), squeeze=False)[0]
    recall = np.linspace(0, 100, 101)
    palette = [np.array(one) / 255 for one in object_colours(len(classes))]
    for axes, (kind, found) in zip(panels, precision.items(), strict=True):
        for label in order:
            if np.isfinite(found.curves[label]).any():
                name = f"AP {found.per_class[label]:.1f}, {short(classes[label])}"
                axes.plot(recall, found.curves[label], color=palette[label], linewidth=1.4, label=name)
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 102)
        axes.set_xlabel("recall, %", fontsize=7.5, color=MUTED)
        axes.set_ylabel("precision, %", fontsize=7.5, color=MUTED)
        axes.set_title(f"{kind}, IoU 0.5", fontsize=8, color=INK, loc="left")
        axes.grid(color="#e5e7eb", linewidth=0.6)
        plain(axes)
        if axes.lines:
            axes.legend(fontsize=6, frameon=False, loc="lower left", labelcolor=INK)
    write_figure(figure, path)
