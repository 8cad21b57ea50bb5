"""From a decoded picture and its objects to what a model sees, for training and for evaluation.

Training draws everything from the generator it is given, in a fixed order: flip, whether to crop, sizes, box,
policies. One draw holds for the picture, its boxes and its masks.

Layout suffixes: `x_CHW` is channels, height, width; `x_N4` is one box a row: left, top, right, bottom.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from hornet_train.images.geometry import Scale, scaled_size
from hornet_train.images.layout import image_of, pixels_of
from hornet_train.images.policies import Policy
from hornet_train.images.resize import resize, resize_and_crop
from hornet_train.tasks.detection.rle import NOTHING, Window

Floats = np.ndarray[Any, np.dtype[np.float64]]
Places = np.ndarray[Any, np.dtype[np.int64]]
_ANY = 10**6  # pixels that no picture has


@dataclass(frozen=True)
class View:
    """A picture as it is trained on, and where its pixels come from.

    Attributes:
        image_CHW: uint8, channels-last in memory.
        boxes_N4: of all objects, cut to the picture; those of objects outside have no area.
        rows, columns: which pixel of the stored picture each row and column shows, by nearest neighbours.
    """

    image_CHW: Tensor
    boxes_N4: Floats
    rows: Places
    columns: Places

    def mask(self, window: Window) -> Window:
        """What is seen of a mask of the stored picture."""
        if window.top < 0:  # unknown
            return window
        tall, wide = window.pixels.shape
        rows, columns = _within(self.rows, window.top, tall), _within(self.columns, window.left, wide)
        if not len(rows) or not len(columns):
            return NOTHING
        from_rows, from_columns = self.rows[rows] - window.top, self.columns[columns] - window.left
        pixels = window.pixels[from_rows[:, None], from_columns]
        return Window(int(rows[0]), int(columns[0]), pixels)


def _within(places: Places, first: int, count: int) -> Places:
    """Where consecutive places lie within a window; they rise or fall, so these are consecutive, too."""
    return np.flatnonzero((places >= first) & (places < first + count))


@dataclass(frozen=True)
class TrainTransform:
    """A mirror image by chance, then one of two ways to a random size, then policies for colours.

    The ways are those of DETR (Carion et al., ECCV 2020), as the published recipes have them: resize to a
    short side out of several; or resize to another one, crop a random box, and resize that as in the first.

    Attributes:
        short_sides: of the result, in pixels, to choose from; None for the size of evaluations.
        scale: see `EvalTransform`; its longer side is the most that the result may have.
        crop_share: how often the second way is taken.
        crop_short_sides: of the picture before it is cropped.
        crop: smallest and largest side of the box, as far as the picture allows.
        jitter: large-scale jitter (Ghiasi et al., CVPR 2021) in place of both ways: smallest and largest
            factor by which a picture that fits a square of the longer side is resized; then a random part
            of at most that square is taken. None goes the two ways.
        hflip: probability of a mirror image.
        policies: change colours alone.
        antialias: of the picture when it shrinks; the published recipes do without.
    """

    short_sides: tuple[int, ...] | None = tuple(range(480, 801, 32))
    scale: Scale | None = (800, 1333)
    crop_share: float = 0.5
    crop_short_sides: tuple[int, ...] = (400, 500, 600)
    crop: tuple[int, int] = (384, 600)
    jitter: tuple[float, float] | None = None
    hflip: float = 0.5
    policies: tuple[Policy, ...] = ()
    antialias: bool = False

    def __call__(self, image_CHW: Tensor, boxes_N4: Floats, rng: np.random.Generator) -> View:
        """Transform a picture with its boxes.

        Args:
            image_CHW: uint8 (3, H, W).
            boxes_N4: in its pixels.
            rng: where every decision comes from.
        """
        height, width = (int(side) for side in image_CHW.shape[1:])
        view = View(image_CHW, boxes_N4.astype(np.float64), np.arange(height), np.arange(width))
        if rng.random() < self.hflip:
            view = _flipped(view)
        if self.jitter is not None:
            side = self.long_side
            size = scaled_size((height, width), (side, side))
            ratio = rng.uniform(*self.jitter)
            size = max(1, int(size[0] * ratio + 0.5)), max(1, int(size[1] * ratio + 0.5))
            view = self._resized(view, size, (min(size[0], side), min(size[1], side)), rng)
        elif rng.random() < self.crop_share:
            size = scaled_size((height, width), (_one(self.crop_short_sides, rng), self.long_side))
            tall, wide = (
                int(rng.integers(min(side, self.crop[0]), min(side, self.crop[1]) + 1)) for side in size
            )
            view = self._resized(view, size, (tall, wide), rng)
            view = self._resized(view, scaled_size((tall, wide), self._scale(rng)))
        else:
            view = self._resized(view, scaled_size((height, width), self._scale(rng)))
        image_CHW = view.image_CHW
        for policy in self.policies:
            image_CHW = policy(image_CHW, rng)
        boxes_N4 = _cut(view.boxes_N4, len(view.rows), len(view.columns))
        return View(image_of(pixels_of(image_CHW)), boxes_N4, view.rows, view.columns)

    def extremes(self, size: tuple[int, int]) -> list[tuple[int, int]]:
        """The largest (height, width) that a picture of this size may come to; each view is within one."""
        scale = self.scale if self.short_sides is None else (max(self.short_sides), self.long_side)
        if self.jitter is not None:
            fitted = scaled_size(size, (self.long_side, self.long_side))
            tall, wide = (min(int(side * self.jitter[1] + 0.5), self.long_side) for side in fitted)
            return [(tall, wide)]
        whole = [scaled_size(size, scale)] if self.crop_share < 1 else []
        if not self.crop_share:
            return whole
        before = [scaled_size(size, (side, self.long_side)) for side in self.crop_short_sides]
        most = [(min(h, self.crop[1]), min(w, self.crop[1])) for h, w in before]
        least = [(min(h, self.crop[0]), min(w, self.crop[0])) for h, w in before]
        pairs = zip(most + least + most, least + most + most, strict=True)
        crops = [scaled_size((tall, wide), scale) for (tall, _), (_, wide) in pairs]
        tallest, widest = max(h for h, _ in crops), max(w for _, w in crops)
        if scale is None:
            return [*whole, (tallest, widest)]
        return [*whole, (tallest, min(scale)), (min(scale), widest)]  # of every shape in between, too

    @property
    def long_side(self) -> int:
        """The most pixels that a side of the result may have."""
        return _ANY if self.scale is None else self.scale[1]

    def _scale(self, rng: np.random.Generator) -> Scale | None:
        if self.short_sides is None:
            return self.scale
        return _one(self.short_sides, rng), self.long_side

    def _resized(
        self,
        view: View,
        size: tuple[int, int],
        part: tuple[int, int] | None = None,
        rng: np.random.Generator | None = None,
    ) -> View:
        """Resize to (height, width), and take a random box of so many pixels of it."""
        height, width = len(view.rows), len(view.columns)
        (tall, wide), top, left = part or size, 0, 0
        if rng is not None:
            top, left = int(rng.integers(size[0] - tall + 1)), int(rng.integers(size[1] - wide + 1))
        box = (top, left, tall, wide)
        image_CHW = resize_and_crop(view.image_CHW, size, box, "bilinear", antialias=self.antialias)
        factors = np.array([size[1] / width, size[0] / height] * 2)
        boxes_N4 = view.boxes_N4 * factors - np.array([left, top] * 2)
        rows = view.rows[(np.arange(tall) + top) * height // size[0]]
        columns = view.columns[(np.arange(wide) + left) * width // size[1]]
        return View(image_CHW, _cut(boxes_N4, tall, wide), rows, columns)


def _one(sides: tuple[int, ...], rng: np.random.Generator) -> int:
    return sides[int(rng.integers(len(sides)))]


def _flipped(view: View) -> View:
    boxes_N4 = view.boxes_N4.copy()
    boxes_N4[:, [0, 2]] = len(view.columns) - boxes_N4[:, [2, 0]]
    return View(view.image_CHW.flip(2), boxes_N4, view.rows, view.columns[::-1])


def _cut(boxes_N4: Floats, height: int, width: int) -> Floats:
    return boxes_N4.clip(0, np.array([width, height] * 2))


@dataclass(frozen=True)
class EvalTransform:
    """A picture resized to fit a scale.

    Attributes:
        scale: most pixels of the shorter and the longer side; None for its own size.
        antialias: see `TrainTransform`.
        ratio: factor of the scale.
        canvas: (height, width) in which a picture has to fit, too; None: none.
    """

    scale: Scale | None = None
    antialias: bool = False
    ratio: float = 1.0
    canvas: tuple[int, int] | None = None

    def __call__(self, image_CHW: Tensor) -> Tensor:
        """uint8 (3, H, W) to uint8 (3, h, w), channels-last in memory."""
        height, width = (int(side) for side in image_CHW.shape[1:])
        size = scaled_size((height, width), self.scale, self.ratio)
        if self.canvas is not None:
            shrunk = min(1.0, *(most / side for most, side in zip(self.canvas, size, strict=True)))
            size = max(1, int(size[0] * shrunk)), max(1, int(size[1] * shrunk))
        return image_of(pixels_of(resize(image_CHW, size, "bilinear", antialias=self.antialias)))
