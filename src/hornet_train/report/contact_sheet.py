"""Draw a contact sheet: many small images with captions in one PNG.

Layout suffixes: `x_BCHW` is batch, channels, height, width; `x_BHWC` and `x_HWC` have the channels last.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from hornet_train.track.durable_files import write_bytes

_IN_AN_INCH = 13  # characters of a title
_MAX_CAPTION = 34  # characters that fit above an image


def draw_sheet(images_BCHW: Tensor, captions: Sequence[str], path: Path, title: str) -> None:
    """Write a PNG of a grid of images.

    Args:
        images_BCHW: uint8 (B, 3, H, W), RGB.
        captions: one an image; long ones are shortened.
        path: of the PNG.
        title: above the grid.

    Raises:
        OSError: the PNG cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(8, max(1, math.ceil(math.sqrt(len(images_BCHW)))))
    rows = math.ceil(len(images_BCHW) / columns)
    tall = 1.9 * images_BCHW.shape[2] / images_BCHW.shape[3] + 0.2  # inches of a row, with the caption
    figure = Figure(figsize=(1.9 * columns, tall * rows + 0.4), dpi=130, layout="constrained")
    figure.suptitle(textwrap.fill(title, int(_IN_AN_INCH * 1.9 * columns)), fontsize=9)
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    images_BHWC = images_BCHW.permute(0, 2, 3, 1).numpy()
    for axes, image_HWC, caption in zip(grid.flat, images_BHWC, captions, strict=False):
        axes.imshow(np.ascontiguousarray(image_HWC), interpolation="nearest")
        short = caption if len(caption) <= _MAX_CAPTION else caption[: _MAX_CAPTION - 1] + "…"
        axes.set_title(short, fontsize=6, pad=2)
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    write_bytes(path, file.getvalue())
