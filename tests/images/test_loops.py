"""Compiled loops on images of any shape: at array edges, a wrong index would read foreign memory."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import tensor
from PIL import Image, ImageFilter, ImageOps

from hornet_train.images import pillow_ops
from hornet_train.images.layout import Interpolation, Pixels, pixels_of
from hornet_train.images.loops import levels
from hornet_train.images.warp import warp

FILL = (9, 120, 250)
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
SIDES = st.integers(1, 20)
INTERPOLATIONS = st.sampled_from(["bilinear", "bicubic"])


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@settings(deadline=None, max_examples=200)
@given(
    SIDES,
    SIDES,
    st.sampled_from(["rows", "columns", "any"]),
    st.lists(st.floats(-1.5, 1.5), min_size=4, max_size=4),
    st.lists(st.floats(-30, 30), min_size=2, max_size=2),
    INTERPOLATIONS,
)
def test_transforms_of_any_shape_are_pillows(
    height: int,
    width: int,
    kind: str,
    slopes: list[float],
    shifts: list[float],
    interpolation: Interpolation,
) -> None:
    a, b, d, e = slopes
    c, f = shifts
    matrix = {"rows": (1, b, c, 0, 1, 0), "columns": (1, 0, 0, d, 1, f), "any": (a, b, c, d, e, f)}[kind]
    picture = Image.fromarray(noise(height, width))
    method = Image.Transform.AFFINE
    theirs = picture.transform(picture.size, method, matrix, FILTERS[interpolation], fillcolor=FILL)
    ours = pixels_of(warp(tensor(picture), matrix, FILL, interpolation))
    apart = np.abs(ours.astype(int) - np.array(theirs))
    # for a point on the border, within rounding, inside and outside are both right
    y, x = np.mgrid[:height, :width] + 0.5
    a, b, c, d, e, f = matrix
    at_x, at_y = a * x + b * y + c, d * x + e * y + f
    near = np.minimum.reduce([np.abs(at_x), np.abs(at_x - width), np.abs(at_y), np.abs(at_y - height)])
    assert apart[near > 1e-6].max(initial=0) <= 1


@settings(deadline=None, max_examples=100)
@given(SIDES, SIDES)
def test_tables_are_pillows(height: int, width: int) -> None:
    pixels = noise(height, width) // 2 + 30
    picture = Image.fromarray(pixels)
    stretched = levels.look_up(pixels, levels.auto_contrast_tables(pixels))
    assert np.array_equal(stretched, np.array(ImageOps.autocontrast(picture)))
    flattened = levels.look_up(pixels, levels.equalize_tables(pixels))
    assert np.array_equal(flattened, np.array(ImageOps.equalize(picture)))
    assert np.array_equal(levels.luma(pixels), np.array(Image.fromarray(pixels).convert("L")))
    tables = noise(256, 1, seed=1).reshape(256, 3).T.copy()
    expected = np.stack([tables[channel][pixels[:, :, channel]] for channel in range(3)], axis=2)
    assert np.array_equal(levels.look_up(pixels, tables), expected)


@settings(deadline=None, max_examples=50)
@given(st.integers(3, 20), st.integers(3, 20))
def test_smoothing_is_pillows(height: int, width: int) -> None:
    pixels = noise(height, width)
    theirs = np.array(Image.fromarray(pixels).filter(ImageFilter.SMOOTH))
    assert np.abs(levels.smooth(pixels).astype(int) - theirs).max() <= 1


def test_blend_with_one_level_is_blend_with_an_image_of_that_level() -> None:
    pixels = noise(5, 7)
    level = np.full((5, 7), 77, dtype=np.uint8)
    for share in (0.0, 0.4, 1.9):
        blended = levels.blend(level, pixels, share)
        assert np.array_equal(levels.blend_level(77.0, pixels, share), blended)
        assert np.array_equal(levels.blend(np.repeat(level[:, :, None], 3, 2), pixels, share), blended)
    assert pillow_ops.sharpness(tensor(Image.fromarray(noise(2, 9))), 1.5).shape == (3, 2, 9)
