"""Colours for classes, told apart as well as so many can be."""

from __future__ import annotations

import colorsys
import math
from functools import cache

from hornet_train.images.layout import RGB

_GOLDEN = (math.sqrt(5) - 1) / 2
_FIRST: tuple[RGB, ...] = (
    (70, 84, 103),
    (230, 110, 60),
    (60, 160, 220),
    (95, 175, 80),
    (240, 195, 60),
    (165, 95, 190),
    (215, 75, 110),
    (80, 195, 185),
    (165, 125, 85),
    (245, 160, 190),
)
_DARK_AND_RED = 2  # of these: the dark one, and the one beside red
UNLABELLED: RGB = (255, 255, 255)


@cache
def colours(classes: int) -> tuple[RGB, ...]:
    """A colour for each class; the first ten are chosen by hand, the others go round the colour wheel."""
    found = list(_FIRST[:classes])
    for label in range(len(found), classes):
        share = (
            label * _GOLDEN % 1.0,
            (0.55, 0.8, 0.65)[label % 3],
            (0.95, 0.7, 0.82, 0.55)[label % 4],
        )
        red, green, blue = (round(255 * value) for value in colorsys.hsv_to_rgb(*share))
        found.append((red, green, blue))
    return tuple(found)


def object_colours(classes: int) -> tuple[RGB, ...]:
    """For objects, which lie on dark pictures, too: without the dark colour, and without the one beside the
    red in which mistakes are drawn."""
    return colours(classes + _DARK_AND_RED)[_DARK_AND_RED:]
