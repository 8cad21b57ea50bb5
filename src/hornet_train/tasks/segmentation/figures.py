"""Figures of an evaluation: the worst pictures with truth and prediction, and the classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from hornet_train.images.palette import UNLABELLED, colours
from hornet_train.tasks.figure_style import INK, MUTED, new_figure, plain, short, write_figure
from hornet_train.tasks.segmentation.gallery import Seen
from hornet_train.tasks.segmentation.metrics import class_scores
from hornet_train.tasks.segmentation.palette import most_frequent

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST_CLASSES = 24  # in a legend, in the bars and in the confusion
_CAPTION = 44  # characters above a picture


def draw_worst(worst: Sequence[Seen], classes: Sequence[str], path: Path, title: str) -> None:
    """A PNG of the pictures of the lowest mIoU: as they are, with the labels and with the prediction.

    Raises:
        OSError: it cannot be written.
    """
    across = 2 if len(worst) > 3 else 1
    rows = -(-len(worst) // across)
    tall = max(view.shape[0] / view.shape[1] for seen in worst for view in seen.views[:1])
    tall = min(tall, 1.5)
    figure = new_figure((5.7 * across, rows * (1.9 * tall + 0.25) + 1.0))
    figure.suptitle(title, fontsize=9, color=INK)
    grid = figure.subplots(rows, 3 * across, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for place, seen in enumerate(worst):
        row, column = divmod(place, across)
        for view, (pixels, label) in enumerate(
            zip(seen.views, ("picture", "truth", "prediction"), strict=True)
        ):
            axes = grid[row, 3 * column + view]
            axes.imshow(pixels, interpolation="nearest")
            where = seen.where if len(seen.where) <= _CAPTION else "…" + seen.where[1 - _CAPTION :]
            text = f"{where}\nmIoU {-100 * seen.rank:.1f}" if view == 0 else label
            axes.set_title(text, fontsize=5.5 if view == 0 else 6, pad=2, color=INK)
    shown = most_frequent([one for seen in worst for one in seen.labels], len(classes), _MOST_CLASSES)
    _legend(figure, classes, shown)
    write_figure(figure, path)


def draw_classes(counts: Tensor, classes: Sequence[str], path: Path, title: str) -> None:
    """A PNG with the IoU of each class and with what each is taken for.

    Raises:
        OSError: it cannot be written.
    """
    scores = class_scores(counts)
    order = [int(one) for one in np.argsort(-scores.labelled, kind="stable") if scores.labelled[one]]
    order = order[:_MOST_CLASSES]
    side = max(2.6, 0.26 * len(order) + 1.2)
    figure = new_figure((2 * side + 2.2, side + 0.9))
    figure.suptitle(title, fontsize=9, color=INK)
    bars, matrix = figure.subplots(1, 2)
    names = [short(classes[label]) for label in order]
    values = [100 * float(np.nan_to_num(scores.iou[label])) for label in order]
    palette = [np.array(colours(len(classes))[label]) / 255 for label in order]
    bars.barh(names, values, color=palette)
    for place, value in enumerate(values):
        inside = value > 85
        bars.text(
            *(value - 1.5 if inside else value + 1.5, place, f"{value:.1f}"),
            va="center", ha="right" if inside else "left", fontsize=6.5, color="white" if inside else INK,
        )  # fmt: skip
    bars.set_xlim(0, 100)
    bars.invert_yaxis()
    bars.set_title("IoU, %", fontsize=8, color=INK, loc="left")
    plain(bars)
    table = counts[:-1].double()[order].numpy()
    shares = 100 * table[:, order] / np.maximum(table.sum(1, keepdims=True), 1)
    matrix.imshow(shares, cmap="Blues", vmin=0, vmax=100, aspect="equal")
    matrix.set_xticks(range(len(order)), names, rotation=90)
    matrix.set_yticks(range(len(order)), names)
    matrix.set_title("share of a row's pixels taken for a column, %", fontsize=8, color=INK, loc="left")
    if len(order) <= 12:
        for (row, column), share in np.ndenumerate(shares):
            matrix.text(
                *(column, row, f"{share:.0f}" if share >= 0.5 else ""),
                ha="center", va="center", fontsize=6, color="white" if share > 55 else INK,
            )  # fmt: skip
    plain(matrix)
    write_figure(figure, path)


def _legend(figure: Figure, classes: Sequence[str], shown: Sequence[int]) -> None:
    from matplotlib.patches import Patch

    palette = colours(len(classes))
    handles = [
        Patch(facecolor=[value / 255 for value in palette[label]], label=short(classes[label]))
        for label in shown
    ]
    blank = Patch(facecolor=[value / 255 for value in UNLABELLED], edgecolor=MUTED, label="no label")
    figure.legend(
        handles=[*handles, blank], loc="outside lower center", ncols=min(8, len(handles) + 1), fontsize=6,
        frameon=False, labelcolor=INK,
    )  # fmt: skip
