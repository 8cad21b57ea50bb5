"""One geometry for a picture, its boxes and its masks, the draws of the published recipes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hornet_train.images.geometry import Scene, flip, resize, scaled_size
from hornet_train.tasks.detection.rle import Window
from hornet_train.tasks.detection.transforms import EvalTransform, TrainTransform, View

SMALL = TrainTransform(
    short_sides=(24, 32, 40),
    scale=(40, 60),
    crop_share=0.5,
    crop_short_sides=(20, 30),
    crop=(16, 28),
)


def picture(rng: np.random.Generator) -> tuple[torch.Tensor, Window, np.ndarray]:
    """A picture that is white in a rectangle and black elsewhere, its mask, and its box."""
    height, width = (int(side) for side in rng.integers(24, 60, 2))
    top, left = int(rng.integers(height - 12)), int(rng.integers(width - 12))
    tall, wide = int(rng.integers(10, height - top + 1)), int(rng.integers(10, width - left + 1))
    pixels = np.zeros((3, height, width), dtype=np.uint8)
    pixels[:, top : top + tall, left : left + wide] = 255
    mask = Window(top, left, np.ones((tall, wide), dtype=bool))
    return torch.from_numpy(pixels), mask, np.array([[left, top, left + wide, top + tall]], dtype=np.float64)


def whole(window: Window, size: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(size, dtype=bool)
    tall, wide = window.pixels.shape
    mask[window.top : window.top + tall, window.left : window.left + wide] = window.pixels
    return mask


@pytest.mark.parametrize("jitter", [None, (0.4, 1.6)])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_picture_mask_and_box_agree(jitter: tuple[float, float] | None, seed: int) -> None:
    rng = np.random.default_rng(seed)
    image, mask, box = picture(rng)
    transform = TrainTransform(**{**SMALL.__dict__, "jitter": jitter})
    view = transform(image, box, rng)
    size = (int(view.image_CHW.shape[1]), int(view.image_CHW.shape[2]))
    assert max(size) <= 60
    seen = whole(view.mask(mask), size)
    # half a pixel, and one of the crop, which is enlarged at most 40 / 16 times
    most = 0.5 + 40 / 16
    white = (view.image_CHW[0] >= 128).numpy()
    rows, columns = np.ix_(np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5)
    left, top, right, bottom = view.boxes_N4[0]
    down, across = np.minimum(rows - top, bottom - rows), np.minimum(columns - left, right - columns)
    depth = np.minimum(down, across)
    for name, found in (("mask", seen), ("picture", white)):
        assert not (found & (depth < -most)).any(), name
        assert found[depth > most].all(), name
    assert (view.boxes_N4 >= 0).all()
    assert (view.boxes_N4[:, 2:] <= [size[1], size[0]]).all()


def test_the_same_draws_give_the_same_and_others_another() -> None:
    image, _, box = picture(np.random.default_rng(0))
    views = [SMALL(image, box, np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert torch.equal(views[0].image_CHW, views[1].image_CHW)
    assert np.array_equal(views[0].boxes_N4, views[1].boxes_N4)
    assert views[0].image_CHW.shape != views[2].image_CHW.shape or not torch.equal(
        views[0].image_CHW, views[2].image_CHW
    )


def test_a_mirror_image_resized_is_that_of_all_tasks() -> None:
    """The published order: flip, then resize; masks by nearest neighbours."""
    generator = np.random.default_rng(3)
    pixels = torch.from_numpy(generator.integers(0, 256, (3, 37, 53), dtype=np.uint8))
    mask = generator.random((37, 53)) < 0.5
    transform = TrainTransform(short_sides=(50,), scale=(50, 200), crop_share=0.0, hflip=1.0)
    box = np.array([[3.0, 4.0, 30.0, 20.0]])
    view = transform(pixels, box, np.random.default_rng(0))
    scene = Scene(pixels, torch.from_numpy(mask), torch.from_numpy(box.astype(np.float32)))
    known = resize(flip(scene), scaled_size((37, 53), (50, 200)), antialias=False)
    assert torch.equal(view.image_CHW, known.image_CHW)
    assert known.masks is not None
    assert known.boxes_N4 is not None
    assert np.array_equal(whole(view.mask(Window(0, 0, mask)), known.size), known.masks.numpy())
    np.testing.assert_allclose(view.boxes_N4, known.boxes_N4.numpy(), rtol=1e-6)


def test_the_published_sizes() -> None:
    assert scaled_size((427, 640), (800, 1333)) == (800, 1199)
    assert scaled_size((480, 1600), (800, 1333)) == (400, 1333)
    assert tuple(EvalTransform((800, 1333))(torch.zeros(3, 480, 640, dtype=torch.uint8)).shape) == (
        3,
        800,
        1067,
    )
    sizes = set()
    transform = TrainTransform()
    for seed in range(60):
        image = torch.zeros(3, 480, 640, dtype=torch.uint8)
        view = transform(image, np.zeros((0, 4)), np.random.default_rng(seed))
        sizes.add(min(view.image_CHW.shape[1:]))
    assert sizes <= set(range(480, 801, 32))
    assert len(sizes) > 8


@pytest.mark.parametrize(("scale", "size"), [((40, 60), (40, 53)), (None, (48, 64))])
def test_without_short_sides_pictures_have_the_size_of_evaluations(
    scale: tuple[int, int] | None, size: tuple[int, int]
) -> None:
    image = torch.zeros(3, 48, 64, dtype=torch.uint8)
    transform = TrainTransform(short_sides=None, scale=scale, crop_share=0.0)
    view = transform(image, np.zeros((0, 4)), np.random.default_rng(0))
    assert tuple(view.image_CHW.shape[1:]) == tuple(EvalTransform(scale)(image).shape[1:]) == size
    assert transform.extremes((48, 64)) == [size]


def test_nothing_is_seen_of_a_mask_that_was_cut_away() -> None:
    view = View(torch.zeros(3, 4, 4, dtype=torch.uint8), np.zeros((0, 4)), np.arange(4), np.arange(4))
    assert view.mask(Window(4, 0, np.ones((2, 2), dtype=bool))).pixels.size == 0
