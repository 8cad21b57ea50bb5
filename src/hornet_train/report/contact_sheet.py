"""A contact sheet: many small images with captions, as one PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from hornet_train.track.files import write_bytes

_CAPTION = 34  # letters that fit below an image


def draw_sheet(images: Tensor, captions: Sequence[str], path: Path, title: str) -> None:
    """Write a PNG of a grid of images.

    Args:
        images: uint8 (B, 3, S, S), RGB.
        captions: one an image; shortened where they are long.

    Raises:
        OSError: it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(8, max(1, math.ceil(math.sqrt(len(images)))))
    rows = math.ceil(len(images) / columns)
    figure = Figure(figsize=(1.9 * columns, 2.1 * rows + 0.4), dpi=130, layout="constrained")
    figure.suptitle(title, fontsize=9)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for axes, image, caption in zip(grid.flat, images.permute(0, 2, 3, 1).numpy(), captions, strict=False):
        axes.imshow(np.ascontiguousarray(image), interpolation="nearest")
        short = caption if len(caption) <= _CAPTION else caption[: _CAPTION - 1] + "…"
        axes.set_title(short, fontsize=6, pad=2)
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    write_bytes(path, file.getvalue())
