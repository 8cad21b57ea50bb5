"""Copy-paste: some objects of another training picture, put on this one (Ghiasi et al., CVPR 2021).

Layout suffixes: `x_CHW` is channels, height, width; `x_N4` is one box a row: left, top, right, bottom.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from hornet_train.images.layout import image_of, pixels_of
from hornet_train.tasks.detection.rle import NOTHING, Window
from hornet_train.tasks.detection.transforms import Floats, Places


@dataclass(frozen=True)
class Scene:
    """A transformed picture with its objects.

    Attributes:
        image_CHW: uint8.
        boxes_N4: within the picture, each with an area.
        labels: int64 (N,).
        masks: of each object, within the picture.
    """

    image_CHW: Tensor
    boxes_N4: Floats
    labels: Places
    masks: Sequence[Window]

    def part(self, places: Sequence[int] | Places) -> Scene:
        """Some of its objects."""
        masks = [self.masks[place] for place in places]
        return Scene(self.image_CHW, self.boxes_N4[places], self.labels[places], masks)


def copy_paste(scene: Scene, other: Scene, rng: np.random.Generator) -> Scene:
    """A random part of another picture's objects, at least one, pasted at a random place.

    What they cover is taken from the masks below; an object that nothing is left of goes, and the box of one
    that is covered in part is put around what is left. The picture keeps its size: what would be outside is
    cut off.

    Args:
        scene: the picture.
        other: where objects come from; none are pasted that have no mask.
        rng: where the draws come from: the place, how many, which.
    """
    height, width = (int(side) for side in scene.image_CHW.shape[1:])
    tall, wide = (int(side) for side in other.image_CHW.shape[1:])
    top, left = (int(rng.integers(min(0, room), max(0, room) + 1)) for room in (height - tall, width - wide))
    with_mask = np.flatnonzero([one.pixels.any() for one in other.masks])
    if not len(with_mask):
        return scene
    count = int(rng.integers(1, len(with_mask) + 1))
    chosen = other.part(np.sort(rng.permutation(with_mask)[:count]))
    moved = [_moved(one, top, left, (height, width)) for one in chosen.masks]
    limits = np.array([width, height] * 2)
    boxes_N4 = (chosen.boxes_N4 + np.array([left, top] * 2)).clip(0, limits)
    pasted = Scene(scene.image_CHW, boxes_N4, chosen.labels, moved)
    areas = (boxes_N4[:, 2:] - boxes_N4[:, :2]).prod(1)
    pasted = pasted.part(
        np.flatnonzero([one.pixels.any() and area > 0 for one, area in zip(moved, areas, strict=True)])
    )
    if not len(pasted.labels):
        return scene
    covered = np.zeros((height, width), dtype=bool)
    for one in pasted.masks:
        covered[_slices(one)] |= one.pixels
    rows, columns = (slice(max(0, at), at + side) for at, side in ((top, tall), (left, wide)))
    there = covered[rows, columns]
    source = pixels_of(other.image_CHW)[
        max(0, -top) : max(0, -top) + there.shape[0], max(0, -left) : max(0, -left) + there.shape[1]
    ]
    pixels = pixels_of(scene.image_CHW).copy()
    pixels[rows, columns][there] = source[there]
    below = _below(scene, covered)
    return Scene(
        image_of(pixels),
        np.concatenate([below.boxes_N4, pasted.boxes_N4]),
        np.concatenate([below.labels, pasted.labels]),
        [*below.masks, *pasted.masks],
    )


def _moved(mask: Window, top: int, left: int, size: tuple[int, int]) -> Window:
    """A mask moved down and to the right, cut to a picture of (height, width)."""
    top, left = mask.top + top, mask.left + left
    pixels = mask.pixels[max(0, -top) : max(0, size[0] - top), max(0, -left) : max(0, size[1] - left)]
    return Window(max(0, top), max(0, left), pixels) if pixels.size else NOTHING


def _below(scene: Scene, covered: np.ndarray) -> Scene:
    """The objects of a picture of which some pixels are covered."""
    kept, masks = list[int](), list[Window]()
    boxes_N4 = scene.boxes_N4.copy()
    for place, mask in enumerate(scene.masks):
        if mask.top < 0 and _within(covered, boxes_N4[place]).all():  # unknown, but covered
            continue
        over = covered[_slices(mask)] & mask.pixels
        if over.any():
            left = mask.pixels & ~over
            if not left.any():
                continue
            boxes_N4[place] = _around(left, mask)
            mask = Window(mask.top, mask.left, left)
        kept.append(place)
        masks.append(mask)
    return Scene(scene.image_CHW, boxes_N4[kept], scene.labels[kept], masks)


def _around(pixels: np.ndarray, mask: Window) -> list[int]:
    """The box around those pixels of a window."""
    rows, columns = np.flatnonzero(pixels.any(1)), np.flatnonzero(pixels.any(0))
    return [
        mask.left + int(columns[0]),
        mask.top + int(rows[0]),
        mask.left + int(columns[-1]) + 1,
        mask.top + int(rows[-1]) + 1,
    ]


def _within(pixels: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The pixels that a box touches."""
    left, top = (int(one) for one in np.floor(box[:2]))
    right, bottom = (int(one) for one in np.ceil(box[2:]))
    return pixels[top:bottom, left:right]


def _slices(mask: Window) -> tuple[slice, slice]:
    tall, wide = mask.pixels.shape
    return slice(mask.top, mask.top + tall), slice(mask.left, mask.left + wide)
