"""A loop over pixels that changes saturation and hue in one pass.

Layout: `pixels` is a contiguous uint8 (H, W, 3) RGB array; results are new arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from hornet_train.images.layout import Pixels
from hornet_train.images.loops.compile_loop import compiled

_BLOCK = 512  # pixels whose channels lie apart meanwhile, for vector instructions


@compiled
def saturate_and_turn(pixels: Pixels, factor: float, turn: float) -> Pixels:
    """Multiply the saturation of HSV, at most up to 1, and shift its hue; value stays.

    Args:
        pixels: uint8 (H, W, 3).
        factor: of the saturation, 0 or more.
        turn: of the hue, in sixths of a turn, -6..6.
    """
    result = np.empty_like(pixels)
    values, changed = pixels.reshape(-1), result.reshape(-1)
    zero, one, two = np.float32(0), np.float32(1), np.float32(2)
    four, six = np.float32(4), np.float32(6)

    def distance(hue: Any, shift: Any) -> Any:
        """Of a channel from the value, 0..1 of the spread."""
        place = hue + shift
        place = place - six if place >= six else place
        return max(zero, min(min(place, four - place), one))

    times, forward = np.float32(factor), np.float32(turn + 6 if turn < 0 else turn)
    planes = np.empty((3, _BLOCK), dtype=np.float32)
    red, green, blue = planes[0], planes[1], planes[2]
    for start in range(0, values.size, 3 * _BLOCK):
        given, written = values[start : start + 3 * _BLOCK], changed[start : start + 3 * _BLOCK]
        count = given.size // 3
        for i in range(count):
            red[i] = given[3 * i]
            green[i] = given[3 * i + 1]
            blue[i] = given[3 * i + 2]
        for i in range(count):
            r, g, b = red[i], green[i], blue[i]
            high, low = max(r, max(g, b)), min(r, min(g, b))
            spread = high - low
            over = max(spread, one)  # grey: a hue of 0, and nothing of it is seen
            hue = (r - g) / over + four
            hue = (b - r) / over + two if high == g else hue
            hue = (g - b) / over if high == r else hue
            hue += forward
            hue = hue + six if hue < zero else hue
            hue = hue - six if hue >= six else hue
            spread = min(spread * times, high)
            red[i] = high - spread * distance(hue, np.float32(5)) + np.float32(0.5)
            green[i] = high - spread * distance(hue, np.float32(3)) + np.float32(0.5)
            blue[i] = high - spread * distance(hue, one) + np.float32(0.5)
        for i in range(count):
            written[3 * i] = np.uint8(red[i])
            written[3 * i + 1] = np.uint8(green[i])
            written[3 * i + 2] = np.uint8(blue[i])
    return result
