"""A loop over pixels that changes saturation and hue in one pass.

Layout: `pixels` is a contiguous uint8 (H, W, 3) RGB array; results are new arrays.
"""

from __future__ import annotations

import numpy as np

from hornet_train.images.layout import Pixels
from hornet_train.images.loops.compile_loop import compiled


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
    for i in range(0, values.size, 3):
        red, green, blue = np.float32(values[i]), np.float32(values[i + 1]), np.float32(values[i + 2])
        high, low = max(red, green, blue), min(red, green, blue)
        spread = high - low
        if spread == 0:
            changed[i], changed[i + 1], changed[i + 2] = values[i], values[i + 1], values[i + 2]
            continue
        if high == red:
            hue = (green - blue) / spread
        elif high == green:
            hue = (blue - red) / spread + np.float32(2)
        else:
            hue = (red - green) / spread + np.float32(4)
        hue = (hue + np.float32(turn) + np.float32(12)) % np.float32(6)
        spread = min(spread * np.float32(factor), high)
        for channel, shift in enumerate((np.float32(5), np.float32(3), np.float32(1))):
            place = (hue + shift) % np.float32(6)
            share = max(np.float32(0), min(place, np.float32(4) - place, np.float32(1)))
            changed[i + channel] = np.uint8(high - spread * share + np.float32(0.5))
    return result
