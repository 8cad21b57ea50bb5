"""Objects drawn on their pictures: boxes with names, masks in the colours of their classes.

Layout suffixes: `x_HWC` has the channels last; `x_N4` is one box a row: left, top, right, bottom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from hornet_train.images.layout import RGB, Pixels
from hornet_train.images.palette import object_colours
from hornet_train.images.resize import resize
from hornet_train.tasks.detection.rle import Window
from hornet_train.tasks.figure_style import font_of

WRONG: RGB = (225, 30, 45)  # of objects that are missed, and of false alarms
_STRENGTH = 0.45  # of masks
_FONT = 11


@dataclass(frozen=True)
class Marks:
    """What is drawn on a picture.

    Attributes:
        boxes: float (N, 4), in pixels of the stored picture.
        labels: N.
        texts: N, over the boxes; "" for nothing.
        wrong: N: drawn in red.
        masks: N parts of the stored picture, or none.
    """

    boxes: np.ndarray[Any, Any]
    labels: Sequence[int]
    texts: Sequence[str]
    wrong: Sequence[bool]
    masks: Sequence[Window] = ()


def shown_size(size: tuple[int, int], side: int) -> tuple[int, int]:
    """(height, width) at which the longer side of a picture has so many pixels."""
    share = side / max(size)
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def marked(picture_HWC: Pixels, marks: Marks, classes: int, size: tuple[int, int] | None = None) -> Pixels:
    """A picture with objects on it, uint8 (h, w, 3).

    Args:
        picture_HWC: as it is stored.
        marks: what to draw, the first on top.
        classes: K.
        size: (height, width) of the result; None for the picture's own.
    """
    height, width = picture_HWC.shape[:2]
    size = size or (height, width)
    image_CHW = torch.from_numpy(np.ascontiguousarray(picture_HWC)).permute(2, 0, 1)
    shown: Any = resize(image_CHW, size, "bilinear").permute(1, 2, 0).numpy().copy()
    palette = object_colours(classes)
    rows, columns = (np.arange(new) * old // new for new, old in zip(size, (height, width), strict=True))
    for place in reversed(range(len(marks.masks))):
        _paint(shown, marks.masks[place], palette[marks.labels[place]], rows, columns)
    image = Image.fromarray(shown)
    draw, font = ImageDraw.Draw(image), font_of(_FONT)
    factors = np.array([size[1] / width, size[0] / height] * 2)
    for place in reversed(range(len(marks.labels))):
        left, top, right, bottom = (marks.boxes[place] * factors).round().astype(int).tolist()
        right, bottom = max(left + 1, right - 1), max(top + 1, bottom - 1)
        colour = WRONG if marks.wrong[place] else palette[marks.labels[place]]
        draw.rectangle((left, top, right, bottom), outline=colour, width=2)
        if text := marks.texts[place]:
            wide, tall = round(font.getlength(text)) + 4, _FONT + 3
            top = top - tall if top >= tall else top
            draw.rectangle((left, top, left + wide, top + tall), fill=colour)
            dark = sum(colour) > 450
            draw.text((left + 2, top), text, fill=(30, 30, 30) if dark else (255, 255, 255), font=font)
    return np.asarray(image)


def _paint(shown: Pixels, mask: Window, colour: RGB, rows: np.ndarray, columns: np.ndarray) -> None:
    """Mix a colour into the pixels of a mask; `rows` and `columns` are those of the stored picture."""
    tall, wide = mask.pixels.shape
    down = np.flatnonzero((rows >= mask.top) & (rows < mask.top + tall))
    across = np.flatnonzero((columns >= mask.left) & (columns < mask.left + wide))
    if not len(down) or not len(across):
        return
    inside = mask.pixels[(rows[down] - mask.top)[:, None], columns[across] - mask.left]
    part = shown[down[0] : down[-1] + 1, across[0] : across[-1] + 1]
    mixed = part * (1 - _STRENGTH) + np.array(colour) * _STRENGTH
    part[inside] = np.rint(mixed[inside]).astype(np.uint8)
