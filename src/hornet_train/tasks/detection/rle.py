"""Masks in COCO's run-length code, and polygons as such masks.

The code counts pixels column by column, in turns those outside and those inside; compressed, each count is
the difference to the one two before it, in characters of five bits. It is decoded here, checked, since the
COCO tools write past the end of their memory where a file's counts are wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from faster_coco_eval.core import mask as coco_masks

from hornet_train.images.layout import Points
from hornet_train.tasks.detection.objects import Outline, Rle

Counts = np.ndarray[Any, np.dtype[np.int64]]
_FIRST, _MORE, _NEGATIVE, _BITS = 48, 0x20, 0x10, 5  # of a character; its lower five bits are a number's
_LONGEST = 7  # characters of a count: 2^34 pixels


class Window(NamedTuple):
    """A part of a picture: its first row and column, and the pixels in it, bool (height, width)."""

    top: int
    left: int
    pixels: np.ndarray[Any, np.dtype[np.bool_]]


NOTHING = Window(0, 0, np.zeros((0, 0), dtype=bool))
UNKNOWN = Window(-1, -1, NOTHING.pixels)  # of an object that has a mask, but nobody drew it


def counts_of(rle: Rle) -> Counts:
    """How many pixels lie outside, inside, outside, ... in turns.

    Raises:
        ValueError: the code is damaged, or for a picture of another size.
    """
    code = np.frombuffer(rle.counts, dtype=np.uint8).astype(np.int64) - _FIRST
    if len(code) and (code.min() < 0 or code.max() >= 64):
        raise ValueError("the run-length code has characters that mean nothing")
    ends = np.flatnonzero((code & _MORE) == 0)
    if not len(ends) or ends[-1] != len(code) - 1:
        raise ValueError("the run-length code breaks off")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _LONGEST:
        raise ValueError("the run-length code has a number that is too large")
    places = np.arange(len(code)) - np.repeat(starts, lengths)
    found = np.add.reduceat((code & (_MORE - 1)) << (_BITS * places), starts)
    found -= ((code[ends] & _NEGATIVE) > 0) * (np.int64(1) << (_BITS * lengths))
    found[1::2] = np.cumsum(found[1::2])
    found[2::2] = np.cumsum(found[2::2])
    return checked(found, rle.size)


def checked(counts: Counts, size: tuple[int, int]) -> Counts:
    """The counts. Raises ValueError where they are not those of a picture of (height, width) pixels."""
    if (counts < 0).any():
        raise ValueError("the run-length code has negative counts")
    if (total := int(counts.sum())) != size[0] * size[1]:
        raise ValueError(f"the run-length code has {total} pixels, its size {size[0]}x{size[1]} is others")
    return counts


def coded(counts: Sequence[int] | Counts, size: tuple[int, int]) -> Rle:
    """The compressed code of counts."""
    numbers = [int(one) for one in counts]
    found: dict[str, Any] = coco_masks.frPyObjects({"counts": numbers, "size": list(size)}, *size)
    return Rle(size, _bytes(found["counts"]))


def window_of(rle: Rle) -> Window:
    """The pixels of a mask within the smallest window around them.

    Raises:
        ValueError: see `counts_of`.
    """
    counts, height = counts_of(rle), rle.size[0]
    ends = np.cumsum(counts)[1::2]
    starts = ends - counts[1::2]
    inside = ends > starts
    starts, ends = starts[inside], ends[inside]
    if not len(starts):
        return NOTHING
    first, last = int(starts[0]) // height, (int(ends[-1]) - 1) // height
    changes = np.zeros((last + 1 - first) * height + 1, dtype=np.int8)
    changes[starts - first * height] += 1
    changes[ends - first * height] -= 1
    pixels = changes[:-1].cumsum(dtype=np.int8).astype(bool).reshape(-1, height).T
    rows = np.flatnonzero(pixels.any(1))
    return Window(int(rows[0]), first, np.ascontiguousarray(pixels[rows[0] : rows[-1] + 1]))


def rle_of(window: Window, size: tuple[int, int]) -> Rle:
    """The code of a mask that is a window's pixels, in a picture of (height, width) pixels."""
    height, width = size
    tall, wide = window.pixels.shape
    columns = np.zeros((wide, height), dtype=bool)
    columns[:, window.top : window.top + tall] = window.pixels.T
    flat = np.concatenate([[False], columns.reshape(-1), [False]])
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + window.left * height
    counts = np.diff(np.concatenate([[0], changes, [height * width]]))
    return coded(counts[:-1] if len(counts) > 1 and not counts[-1] else counts, size)


def rle_of_polygons(rings: Sequence[Points], size: tuple[int, int]) -> Rle:
    """The mask of polygons as the COCO tools draw them, in a picture of (height, width) pixels."""
    parts = coco_masks.frPyObjects([ring.reshape(-1).tolist() for ring in rings], *size)
    found: dict[str, Any] = coco_masks.merge(parts)
    return Rle(size, _bytes(found["counts"]))


def mask_code(outline: Outline, size: tuple[int, int]) -> Rle | None:
    """The mask of an outline, in a picture of (height, width) pixels; None without an outline."""
    if outline is None or isinstance(outline, Rle):
        return outline
    return rle_of_polygons(outline, size)


def area_of(rle: Rle) -> int:
    """The pixels of a mask."""
    return int(counts_of(rle)[1::2].sum())


def _bytes(counts: str | bytes) -> bytes:
    return counts.encode() if isinstance(counts, str) else counts
