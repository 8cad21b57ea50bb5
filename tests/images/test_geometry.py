"""Masks, boxes and polygons stay where they are on the image: published outputs, and outlines drawn again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import grid_points_in_poly
from torch import Tensor

from hornet_train.images.geometry import Polygons, Scene, crop, flip, pad, resize, size_within

REFERENCE = dict(np.load(Path(__file__).parents[1] / "reference/dense/geometry.npz"))


def maps(name: str, size: tuple[int, int]) -> Tensor:
    """Packed bit maps of three objects, (3, H, W)."""
    bits = np.unpackbits(REFERENCE[name])[: 3 * size[0] * size[1]]
    return torch.from_numpy(bits.reshape(3, *size)).bool()


def sample() -> Scene:
    """The picture of the published outputs, with objects that reach beyond it."""
    outlines = json.loads(str(REFERENCE["sample_polygons"]))
    polygons = tuple(tuple(np.array(ring).reshape(-1, 2) for ring in outline) for outline in outlines)
    image = torch.from_numpy(REFERENCE["sample_image_channel0"]).expand(3, -1, -1)
    size = (int(image.shape[1]), int(image.shape[2]))
    boxes = torch.from_numpy(REFERENCE["sample_boxes"])
    return Scene(image, maps("sample_bitmaps_packed", size), boxes, polygons)


@pytest.mark.parametrize(
    ("name", "short", "long"),
    [
        ("coco_test", 800, 1333),
        ("coco_480", 480, 1333),
        ("coco_400", 400, 1333),
        ("ade_512", 512, 2048),
        ("ade_640", 640, 2560),
        *((f"ade_512_x{r}", int(512 * r), int(2048 * r)) for r in (0.5, 0.75, 1.25, 1.5, 1.75)),
    ],
)
def test_sizes_are_the_published_ones(name: str, short: int, long: int) -> None:
    found = [size_within(tuple(size), short, long) for size in REFERENCE["sizes_hw"].tolist()]
    assert found == [tuple(size) for size in REFERENCE[f"resized_{name}_hw"].tolist()]


def test_resize_flip_and_pad_are_the_published_ones() -> None:
    scene = sample()
    size = tuple(REFERENCE["resized_hw"].tolist())
    assert size_within(scene.size, 100, 133) == size
    resized = resize(crop(scene, (0, 0, *scene.size)), size, antialias=False)
    levels = (
        resized.image_CHW[0, ::5, ::5].int() - torch.from_numpy(REFERENCE["resized_image_channel0"]).int()
    )
    assert levels.abs().max() <= 1
    mirrored = flip(resized)
    for found, name in ((resized, "resized"), (mirrored, "flipped")):
        assert found.boxes_N4 is not None
        assert torch.allclose(found.boxes_N4, torch.from_numpy(REFERENCE[f"{name}_boxes"]), atol=1e-4)
        assert found.masks is not None
        assert torch.equal(found.masks, maps(f"{name}_masks_packed", size))
    padded = pad(mirrored, tuple(REFERENCE["padded_hw"].tolist()), (7, 8, 9), mask_fill=0)
    assert padded.masks is not None
    assert list(padded.masks.shape) == REFERENCE["padded_masks_shape"].tolist()
    assert not padded.masks[:, size[0] :].any()
    assert not padded.masks[:, :, size[1] :].any()
    assert torch.equal(padded.image_CHW[:, : size[0], : size[1]], mirrored.image_CHW)
    assert padded.image_CHW[:, -1, 0].tolist() == padded.image_CHW[:, 0, -1].tolist() == [7, 8, 9]


def drawn(polygons: Polygons, size: tuple[int, int]) -> Tensor:
    """(N, H, W): the pixels whose centre is in one of an object's rings."""
    maps = np.zeros((len(polygons), *size), bool)
    for inside, outline in zip(maps, polygons, strict=True):
        for ring in outline:
            inside |= grid_points_in_poly(size, ring[:, ::-1] - 0.5)
    return torch.from_numpy(maps)


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """One object, often partly beyond the image; no point at a pixel's centre, where it could be either."""
    height, width = draw(st.integers(4, 24)), draw(st.integers(4, 24))
    point = st.tuples(st.integers(-6, 30), st.integers(-6, 30))
    ring = np.array(draw(st.lists(point, min_size=3, max_size=7))) + 0.25
    ring += np.random.default_rng(draw(st.integers(0, 9))).uniform(0, 0.2, ring.shape)
    polygons = ((ring,),)
    mask = drawn(polygons, (height, width))[0].to(torch.uint8)
    box = torch.tensor([[*ring.min(0), *ring.max(0)]], dtype=torch.float32)
    return Scene(mask.expand(3, -1, -1) * 200, mask, box, polygons)


@settings(max_examples=150, deadline=None)
@given(scenes(), st.data())
def test_what_is_marked_moves_with_the_image(scene: Scene, data: st.DataObject) -> None:
    height, width = scene.size
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    box = (top, left, data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left)))
    moved = pad(flip(crop(scene, box)), (box[2] + 2, box[3] + 1), mask_fill=0)
    assert moved.masks is not None
    assert moved.boxes_N4 is not None
    assert torch.equal(moved.image_CHW, moved.masks.expand(3, -1, -1) * 200)
    assert torch.equal(drawn(moved.polygons, moved.size)[0], moved.masks.bool())
    for points in moved.polygons[0]:
        assert (points >= -1e-9).all()
        assert (points <= np.array([box[3], box[2]]) + 1e-9).all()
    x_min, y_min, x_max, y_max = moved.boxes_N4[0].tolist()
    assert 0 <= x_min <= x_max <= box[3]
    assert 0 <= y_min <= y_max <= box[2]
    rows, columns = torch.nonzero(moved.masks, as_tuple=True)
    if len(rows):
        assert x_min - 1 <= columns.min() <= columns.max() <= x_max
        assert y_min - 1 <= rows.min() <= rows.max() <= y_max


@pytest.mark.parametrize("antialias", [True, False])
def test_boxes_polygons_and_masks_grow_alike(antialias: bool) -> None:
    """Enlarged by 2 and 3, each pixel of the mask is 2 x 3, and the outline drawn again is it."""
    square = np.array([[2.0, 1.0], [5.0, 1.0], [5.0, 4.0], [2.0, 4.0]])
    mask = drawn(((square,),), (6, 8))[0].to(torch.int16) * 300  # more classes than a byte holds
    scene = Scene(torch.zeros(3, 6, 8, dtype=torch.uint8), mask, torch.tensor([[2.0, 1, 5, 4]]), ((square,),))
    grown = resize(scene, (12, 24), antialias)
    assert grown.masks is not None
    assert grown.boxes_N4 is not None
    assert torch.equal(grown.masks, mask.repeat_interleave(2, 0).repeat_interleave(3, 1))
    assert torch.equal(drawn(grown.polygons, (12, 24))[0], grown.masks == 300)
    assert grown.boxes_N4.tolist() == [[6, 2, 15, 8]]


def test_an_object_outside_of_a_crop_keeps_its_place() -> None:
    cut = crop(sample(), (0, 45, 20, 20))
    assert cut.boxes_N4 is not None
    areas = (cut.boxes_N4[:, 2:] - cut.boxes_N4[:, :2]).prod(1)
    assert (areas > 0).tolist() == [False, False, False]
    assert [len(outline) for outline in cut.polygons] == [0, 0, 1]


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"masks of \(4, 5\).* image of \(5, 4\)"):
        Scene(torch.zeros(3, 5, 4, dtype=torch.uint8), torch.zeros(4, 5, dtype=torch.uint8))
