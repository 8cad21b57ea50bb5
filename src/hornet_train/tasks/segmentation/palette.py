"""Label maps drawn in the colours of their classes.

Layout suffixes: `x_HW` is height, width; `x_HWC` has the channels last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from hornet_train.images.layout import Pixels
from hornet_train.images.palette import UNLABELLED, colours
from hornet_train.tasks.figure_style import font_of
from hornet_train.tasks.segmentation.metrics import IGNORED

_IN_A_LEGEND = 12


def painted(labels_HW: np.ndarray, classes: int) -> Pixels:
    """A label map in the colours of its classes, uint8 (H, W, 3); pixels without a label are white."""
    table = np.full((256, 3), UNLABELLED, dtype=np.uint8)
    table[:classes] = colours(classes)
    found: Pixels = table[labels_HW]
    return found


def overlay(pixels_HWC: Pixels, labels_HW: np.ndarray, classes: int, strength: float = 0.55) -> Pixels:
    """A picture with its label map over it, uint8 (H, W, 3); where there is no label it is seen as it is.

    It is grey below the labels, so that these have the colours of the legend.
    """
    known = (labels_HW != IGNORED)[:, :, None]
    grey = (pixels_HWC @ np.array([0.299, 0.587, 0.114]))[:, :, None]
    mixed = grey * (1 - strength) + painted(labels_HW, classes) * strength
    found: Pixels = np.where(known, np.rint(mixed), pixels_HWC).astype(np.uint8)
    return found


def with_legend(pixels_HWC: Pixels, label_maps: Sequence[np.ndarray], names: Sequence[str]) -> Pixels:
    """A picture with the colours and names of its classes below it, the most frequent twelve at most."""
    labels = most_frequent(label_maps, len(names), _IN_A_LEGEND)
    entries = [(colours(len(names))[label], names[label]) for label in labels]
    if any((one == IGNORED).any() for one in label_maps):
        entries.append((UNLABELLED, "no label"))
    font = font_of(10)
    width, places, x, y = pixels_HWC.shape[1], list[tuple[int, int]](), 4, 3
    for _, name in entries:
        wide = 20 + math.ceil(font.getlength(name))
        if x > 4 and x + wide > width:
            x, y = 4, y + 14
        places.append((x, y))
        x += wide
    strip = Image.new("RGB", (width, y + 16), UNLABELLED)
    draw = ImageDraw.Draw(strip)
    for (colour, name), (left, top) in zip(entries, places, strict=True):
        draw.rectangle((left, top + 1, left + 9, top + 10), fill=colour, outline=(107, 114, 128))
        draw.text((left + 13, top), name, fill=(34, 38, 43), font=font)
    return np.vstack([pixels_HWC, np.asarray(strip)])


def most_frequent(label_maps: Sequence[np.ndarray], classes: int, most: int) -> list[int]:
    """The labels of the most pixels, at most so many, in the order of the labels."""
    counts = sum(np.bincount(one.reshape(-1), minlength=256)[:classes] for one in label_maps)
    ranked = np.argsort(-np.asarray(counts), kind="stable")[:most]
    return sorted(int(label) for label in ranked if np.asarray(counts)[label])
