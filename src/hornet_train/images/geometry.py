"""Resize, crop, flip and pad an image together with what is marked on it: masks, boxes, polygons.

Points are (x, y) in pixels. The origin is the upper left corner of the image, and pixel centres are at
halves: the image covers [0, width] x [0, height].

Layout suffixes: `x_CHW` is channels, height, width; `x_N4` is one box a row: left, top, right, bottom.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from hornet_train.images.layout import RGB, Box, Points, image_of
from hornet_train.images.resize import resize as resize_image

Scale = tuple[int, int]  # the most pixels that the shorter and the longer side may have
Polygons = tuple[tuple[Points, ...], ...]


@dataclass(frozen=True)
class Scene:
    """An image and what is marked on it. Objects keep their places: none is dropped by what is done here.

    Attributes:
        image_CHW: uint8 (3, H, W).
        masks: integers or bool (..., H, W): the class of each pixel as (H, W), say, or where each of N
            objects is as (N, H, W); None without.
        boxes_N4: float32 (N, 4); None without. They and polygons may reach beyond the image until a crop, be
            it to the image's own size, cuts them.
        polygons: for each object the rings that outline its parts, float64 (K, 2) each, K >= 3.
    """

    image_CHW: Tensor
    masks: Tensor | None = None
    boxes_N4: Tensor | None = None
    polygons: Polygons = ()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(self.image_CHW.shape[1]), int(self.image_CHW.shape[2])

    def __post_init__(self) -> None:
        if self.masks is not None and tuple(self.masks.shape[-2:]) != self.size:
            raise ValueError(
                f"masks of {tuple(self.masks.shape[-2:])} pixels (height, width), but an image of {self.size}"
            )


def size_within(size: tuple[int, int], short: int, long: int) -> tuple[int, int]:
    """The size of an image that is scaled, aspect ratio kept, as far as two limits allow (as mmcv scales).

    Args:
        size: (height, width) in pixels.
        short, long: the most pixels that the shorter and the longer side may have.
    """
    scale = min(long / max(size), short / min(size))
    return int(size[0] * scale + 0.5), int(size[1] * scale + 0.5)


def scaled_size(size: tuple[int, int], scale: Scale | None, ratio: float = 1.0) -> tuple[int, int]:
    """The size, (height, width), of a picture resized to fit a scale times a ratio, its aspect ratio kept.

    `scale`: None for the picture's own size.
    """
    if scale is None:
        height, width = (int(side * ratio + 0.5) for side in size)
    else:
        height, width = size_within(size, *(int(side * ratio) for side in scale))
    return max(1, height), max(1, width)


def resize(scene: Scene, size: tuple[int, int], antialias: bool = True) -> Scene:
    """Resize everything to (height, width) in pixels; the image is interpolated bilinearly.

    A mask's pixel x is the old one at floor(x * old width / new width), and rows alike, which is "nearest" of
    OpenCV and torch, not "nearest-exact". No class is mixed from two others.

    Args:
        antialias: of the image, when it shrinks; the published recipes of dense tasks do without.
    """
    height, width = scene.size
    by_xy = np.array([size[1] / width, size[0] / height])
    masks = scene.masks
    if masks is not None:
        rows = torch.arange(size[0]) * height // size[0]
        columns = torch.arange(size[1]) * width // size[1]
        masks = masks[..., rows[:, None], columns]
    image_CHW = resize_image(scene.image_CHW, size, "bilinear", antialias=antialias)
    return replace(_move_points(scene, lambda xy: xy * by_xy), image_CHW=image_CHW, masks=masks)


def flip(scene: Scene) -> Scene:
    """Mirror left and right."""
    width = scene.size[1]
    mirrored = _move_points(scene, lambda xy: np.array([width, 0]) + xy * np.array([-1, 1]))
    return replace(
        mirrored,
        image_CHW=scene.image_CHW.flip(2),
        masks=None if scene.masks is None else scene.masks.flip(-1),
    )


def crop(scene: Scene, box: Box) -> Scene:
    """Cut out a box, (top, left, height, width) in pixels within the image.

    Boxes and polygons are cut at its border. Of an object outside of it a box without area and no rings
    remain, so that the places of objects do not change.
    """
    top, left, height, width = box
    rows, columns = slice(top, top + height), slice(left, left + width)
    moved = _move_points(scene, lambda xy: xy - np.array([left, top]))
    boxes_N4 = moved.boxes_N4
    if boxes_N4 is not None:
        boxes_N4 = boxes_N4.clamp(min=0).minimum(boxes_N4.new_tensor([width, height, width, height]))
    rings = tuple(tuple(_cut(ring, height, width) for ring in outline) for outline in moved.polygons)
    return Scene(
        scene.image_CHW[:, rows, columns],
        None if scene.masks is None else scene.masks[..., rows, columns],
        boxes_N4,
        tuple(tuple(ring for ring in outline if len(ring)) for outline in rings),
    )


def pad(scene: Scene, size: tuple[int, int], fill: RGB = (0, 0, 0), mask_fill: int = 255) -> Scene:
    """Extend to the right and below up to (height, width); a side that is longer already stays.

    Args:
        fill: RGB, 0..255, of the new pixels.
        mask_fill: of the new pixels of masks: 255 is the usual class to be ignored; 0 for masks of objects.
    """
    height, width = scene.size
    below, right = max(0, size[0] - height), max(0, size[1] - width)
    pixels_HWC = np.empty((height + below, width + right, 3), np.uint8)
    pixels_HWC[:] = fill
    pixels_HWC[:height, :width] = scene.image_CHW.permute(1, 2, 0).numpy()
    masks = scene.masks
    if masks is not None:
        masks = functional.pad(masks, (0, right, 0, below), value=mask_fill)
    return replace(scene, image_CHW=image_of(pixels_HWC), masks=masks)


def _move_points(scene: Scene, move: Callable[[Points], Points]) -> Scene:
    """Boxes and polygons with each point of (..., 2) moved; the left of a mirrored box is again left."""
    boxes_N4 = scene.boxes_N4
    if boxes_N4 is not None:
        corners_N22 = np.sort(move(boxes_N4.numpy().astype(np.float64).reshape(-1, 2, 2)), axis=1)
        boxes_N4 = torch.from_numpy(corners_N22.reshape(-1, 4).astype(np.float32))
    polygons = tuple(tuple(move(ring) for ring in outline) for outline in scene.polygons)
    return replace(scene, boxes_N4=boxes_N4, polygons=polygons)


def _cut(ring: Points, height: int, width: int) -> Points:
    """The part of a polygon within [0, width] x [0, height], by Sutherland and Hodgman; (0, 2) if none is.

    A polygon that leaves and comes back stays one ring, whose parts are joined along the border by lines that
    enclose no area.
    """
    for axis, limit, sign in ((0, 0, 1), (0, width, -1), (1, 0, 1), (1, height, -1)):
        inside = sign * (ring[:, axis] - limit)  # how far each point is inside of this side
        points = []
        for i, (before, here) in enumerate(zip(np.roll(inside, 1), inside, strict=True)):
            if (before < 0) != (here < 0):
                points.append(ring[i - 1] + (ring[i] - ring[i - 1]) * (before / (before - here)))
            if here >= 0:
                points.append(ring[i])
        ring = np.array(points).reshape(-1, 2)
    return ring
