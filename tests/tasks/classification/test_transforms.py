"""Crops, the evaluation rule against torchvision, erase boxes, and samples as functions of their address."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from skimage import data
from timm.data.transforms_factory import transforms_imagenet_eval as timm_eval
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

from hornet_train.data.address import sample_rng
from hornet_train.images.layout import Interpolation
from hornet_train.images.policies.randaugment import RandAugment
from hornet_train.images.random_boxes import random_erase_box, random_resized_crop_box
from hornet_train.images.resize import resize, resize_and_crop
from hornet_train.tasks.classification.transforms import EvalTransform, Growth, TrainTransform

PHOTO = torch.from_numpy(data.astronaut()).permute(2, 0, 1)  # channels-last memory, as decoded
WIDE, TALL, SMALL = PHOTO[:, 100:340, :], PHOTO[:, :, 60:291], PHOTO[:, 200:217, 100:131]
BICUBIC = v2.InterpolationMode.BICUBIC


def rng(*address: int) -> np.random.Generator:
    return np.random.default_rng(address)


@pytest.mark.parametrize("image", [WIDE, TALL, SMALL], ids=["wide", "tall", "small"])
@pytest.mark.parametrize(("size", "crop_pct"), [(224, 0.875), (32, 0.9), (288, 1.0), (33, 0.875)])
def test_below_384_the_short_side_then_the_centre(image: Tensor, size: int, crop_pct: float) -> None:
    theirs = v2.Compose([v2.Resize(int(size / crop_pct), BICUBIC, antialias=True), v2.CenterCrop(size)])
    ours = EvalTransform(size, crop_pct)(image)
    assert ours.shape == (3, size, size)
    assert ours.permute(1, 2, 0).is_contiguous()
    assert torch.equal(ours, theirs(image))


@pytest.mark.parametrize("image", [WIDE, TALL, SMALL], ids=["wide", "tall", "small"])
def test_from_384_the_whole_image_is_warped(image: Tensor) -> None:
    ours = EvalTransform(384)(image)
    assert torch.equal(ours, v2.Resize((384, 384), BICUBIC, antialias=True)(image))
    assert EvalTransform(383)(image).shape == (3, 383, 383)
    assert not torch.equal(ours[:, :383, :383], EvalTransform(383)(image))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(224, 224), (37, 61), (256, 341), (700, 530)])
@pytest.mark.parametrize("image", [WIDE, TALL, SMALL], ids=["wide", "tall", "small"])
def test_resize_is_pillows_within_a_level(
    image: Tensor, size: tuple[int, int], interpolation: Interpolation
) -> None:
    pillow = Image.fromarray(image.permute(1, 2, 0).numpy())
    theirs = pillow.resize(size[::-1], getattr(Image.Resampling, interpolation.upper()))
    for memory in (image, image.contiguous()):
        ours = resize(memory, size, interpolation)
        apart = (ours.int() - torch.from_numpy(np.array(theirs)).permute(2, 0, 1).int()).abs()
        assert (apart > 1).float().mean() < 2e-3  # "tall": Pillow takes the columns first, see `resize`
        assert apart.max() <= 6
        assert apart.float().mean() < 0.25


@pytest.mark.parametrize("shape", [(1, 400_000), (400_000, 1), (3, 90_000)])
def test_a_strip_of_pixels_fills_no_memory(shape: tuple[int, int]) -> None:
    """1 x 1,000,000 pixels are 3 kB of PNG; with its short side 256, the rest of it takes 92 GB."""
    pixels = np.zeros((*shape, 3), dtype=np.uint8)
    middle = tuple(slice(side // 2 - 40, side // 2 + 40) if side > 80 else slice(None) for side in shape)
    pixels[middle] = 200
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    assert (EvalTransform(64)(image) == 200).all()
    assert EvalTransform(384)(image).shape == (3, 384, 384)


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from([40, 400]), st.sampled_from(["bilinear", "bicubic"]))
def test_a_part_of_the_resized_is_that_part(
    given_: st.DataObject, most: int, interpolation: Interpolation
) -> None:
    height, width, *size = given_.draw(st.lists(st.integers(1, most), min_size=4, max_size=4))
    rows = sorted(given_.draw(st.lists(st.integers(0, size[0]), min_size=2, max_size=2, unique=True)))
    columns = sorted(given_.draw(st.lists(st.integers(0, size[1]), min_size=2, max_size=2, unique=True)))
    pixels = rng(height, width).integers(0, 256, (height, width, 3)).astype(np.uint8)
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    box = (rows[0], columns[0], rows[1] - rows[0], columns[1] - columns[0])
    whole = functional.interpolate(image[None], size, mode=interpolation, antialias=True)[0]
    part = resize_and_crop(image, (size[0], size[1]), box, interpolation)
    assert torch.equal(part, whole[:, rows[0] : rows[1], columns[0] : columns[1]])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resizing_a_box_is_resizing_what_is_in_it(interpolation: Interpolation) -> None:
    cut = PHOTO[:, 30:290, 100:411].contiguous()
    assert torch.equal(
        resize(PHOTO, (96, 128), interpolation, (30, 100, 260, 311)), resize(cut, (96, 128), interpolation)
    )


sides = st.integers(1, 400)


@settings(max_examples=200, deadline=None)
@given(sides, sides, st.integers(0, 2**32))
def test_crop_boxes_lie_inside(height: int, width: int, seed: int) -> None:
    top, left, box_h, box_w = random_resized_crop_box(height, width, rng(seed))
    assert top >= 0
    assert left >= 0
    assert 1 <= box_h <= height - top
    assert 1 <= box_w <= width - left


def test_crop_boxes_have_the_areas_and_ratios_asked_for() -> None:
    boxes = np.array([random_resized_crop_box(400, 500, rng(seed)) for seed in range(3000)])
    area = boxes[:, 2] * boxes[:, 3] / (400 * 500)
    ratio = boxes[:, 3] / boxes[:, 2]
    assert 0.079 < area.min() < 0.09
    assert area.max() <= 1
    assert 0.74 < ratio.min() < 0.77
    assert 1.3 < ratio.max() < 1.35
    # torchvision draws from the same distribution
    torch.manual_seed(0)
    made = [v2.RandomResizedCrop(224).make_params([torch.empty(3, 400, 500)]) for _ in range(3000)]
    theirs = [(m["height"] * m["width"] / (400 * 500), math.log(m["width"] / m["height"])) for m in made]
    ours = np.stack([area, np.log(ratio)], 1)
    assert np.abs(ours.mean(0) - np.mean(theirs, 0)).max() < 0.02
    assert (
        np.abs(np.quantile(ours, (0.1, 0.5, 0.9), 0) - np.quantile(theirs, (0.1, 0.5, 0.9), 0)).max() < 0.04
    )


def test_a_crop_that_never_fits_falls_back_to_the_centre() -> None:
    assert random_resized_crop_box(1000, 10, rng(0), scale=(0.9, 1)) == (493, 0, 13, 10)
    assert random_resized_crop_box(10, 1000, rng(0), scale=(0.9, 1)) == (0, 493, 10, 13)


@settings(max_examples=300, deadline=None)
@given(
    sides, st.integers(-3, 3) | sides, st.lists(st.integers(0, 2**32), min_size=2, max_size=2, unique=True)
)
def test_the_whole_area_in_one_shape_is_the_central_square(height: int, more: int, seeds: list[int]) -> None:
    """Whatever is drawn; of n x (n + 1) pixels torchvision takes the square at either end."""
    width = max(1, height + more)
    side = min(height, width)
    for seed in seeds:
        box = random_resized_crop_box(height, width, rng(seed), scale=(1, 1), ratio=(1, 1))
        assert box == ((height - side) // 2, (width - side) // 2, side, side)


@pytest.mark.parametrize(("width", "uniform", "integers"), [(32, 2, 0), (33, 2, 1), (34, 20, 0)])
def test_central_crops_draw_as_many_numbers_as_random_ones(width: int, uniform: int, integers: int) -> None:
    """What is drawn after them, and so trainings on square images, stays what it was, bit for bit."""
    used, same = rng(7), rng(7)
    random_resized_crop_box(32, width, used, scale=(1, 1), ratio=(1, 1))
    same.uniform(size=uniform)
    same.integers(2, size=integers)
    assert used.bit_generator.state == same.bit_generator.state


def test_erase_boxes() -> None:
    boxes = np.array([random_erase_box(224, 224, rng(seed)) for seed in range(3000)])
    assert (boxes[:, :2] + boxes[:, 2:] <= 224).all()
    area = boxes[:, 2] * boxes[:, 3] / 224**2
    assert 0.018 < area.min() < 0.03
    assert 0.3 < area.max() < 0.34
    aspect = np.log(boxes[:, 2] / boxes[:, 3])
    assert abs(aspect.mean()) < 0.05
    assert 1.1 < aspect.max() < 1.25  # log(1 / 0.3) = 1.204
    assert random_erase_box(1, 1, rng(0), area=(1, 1)) == (0, 0, 0, 0)


FULL = TrainTransform(64, policies=(RandAugment.parse("rand-m9-mstd0.5-inc1"),), erase_prob=0.25)


@pytest.mark.parametrize(
    "transform",
    [
        FULL,
        TrainTransform(64, scale=(1, 1), ratio=(1, 1)),
        TrainTransform(240, hflip=0),
    ],
)
def test_a_sample_is_a_function_of_its_address(transform: TrainTransform) -> None:
    before = WIDE.clone()
    orders = (range(30), reversed(range(30)))  # history must not matter
    runs = [{index: transform(WIDE, rng(0, 3, index)) for index in order} for order in orders]
    for index in range(30):
        (image, box), (same_image, same_box) = runs[0][index], runs[1][index]
        assert image.shape == (3, transform.image_size, transform.image_size)
        assert image.dtype == torch.uint8
        assert image.permute(1, 2, 0).is_contiguous()
        assert box.dtype == torch.int64
        assert torch.equal(image, same_image)
        assert torch.equal(box, same_box)
    other_epoch = [transform(WIDE, rng(0, 4, index))[0] for index in range(30)]
    changed = sum(not torch.equal(image, runs[0][index][0]) for index, image in enumerate(other_epoch))
    assert changed >= (5 if transform.scale == (1, 1) else 25)
    assert torch.equal(before, WIDE)


def test_flips_and_erase_boxes_come_as_often_as_reported() -> None:
    transform = TrainTransform(16, scale=(1, 1), ratio=(1, 1), erase_prob=0.25)
    square = SMALL[:, :9, :9]
    plain = resize(square, (16, 16))
    results = [transform(square, rng(index)) for index in range(800)]
    flipped = sum(torch.equal(image, plain.flip(2)) for image, _ in results)
    assert flipped + sum(torch.equal(image, plain) for image, _ in results) == 800
    assert 340 < flipped < 460
    assert 150 < sum(bool(box.any()) for _, box in results) < 250


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="scale"):
        TrainTransform(64, scale=(0.5, 0.1))
    with pytest.raises(ValueError, match="erase_prob"):
        TrainTransform(64, erase_prob=2)
    with pytest.raises(ValueError, match="crop_pct"):
        EvalTransform(224, crop_pct=1.2)


def test_images_grow_with_the_epochs() -> None:
    growth = Growth(128, 224, epochs=8, multiple=32)
    assert [growth(epoch) for epoch in range(10)] == [128, 128, 128, 160, 160, 160, 192, 192, 224, 224]
    assert Growth(100, 224, epochs=2.5, multiple=32)(0) == 100
    image = torch.randint(0, 256, (3, 300, 400), dtype=torch.uint8)
    transform = TrainTransform(224, erase_prob=1.0, growth=growth)
    for epoch, size in ((0, 128), (7, 192), (9, 224)):
        grown, box = transform(image, sample_rng(0, epoch, 1), epoch)
        assert grown.shape == (3, size, size)
        assert max(box.tolist()) < size
    with pytest.raises(ValueError, match="sizes rise"):
        Growth(256, 224, epochs=3)


@pytest.mark.parametrize("image", [WIDE, TALL, SMALL], ids=["wide", "tall", "small"])
@pytest.mark.parametrize("crop_pct", [0.875, 0.95, 1.0])
@pytest.mark.parametrize("size", [(192, 352), (48, 32), (400, 390), (33, 97)])
def test_other_shapes_are_cropped_by_timms_rule(
    image: Tensor, size: tuple[int, int], crop_pct: float
) -> None:
    """Sizes, box and pixels: timm's resize decides the size, torchvision's crop the place."""
    theirs = timm_eval(size, crop_pct=crop_pct, interpolation="bicubic", use_prefetcher=True)
    covering, crop = theirs.transforms[:2]
    whole = covering.get_params(
        Image.fromarray(image.permute(1, 2, 0).numpy()), covering.size, covering.longest
    )
    resized = v2.functional.resize(image, whole, BICUBIC, antialias=True)
    ours = EvalTransform(size, crop_pct)(image)
    assert ours.shape == (3, *size)
    assert ours.permute(1, 2, 0).is_contiguous()
    assert torch.equal(ours, v2.functional.center_crop(resized, list(crop.size)))


def test_a_long_shape_sees_more_of_a_strip() -> None:
    pixels = np.arange(3 * 4 * 800, dtype=np.uint32).reshape(4, 800, 3) % 251
    strip = torch.from_numpy(pixels.astype(np.uint8)).permute(2, 0, 1)
    assert torch.equal(EvalTransform((4, 800), crop_pct=1.0)(strip), strip)  # 200 times as long as wide


def test_training_crops_are_stretched_to_the_shape() -> None:
    """The box is torchvision's, whatever the shape of the result; the erase box lies in the result."""
    transform = TrainTransform((24, 80), erase_prob=1.0)
    for seed in range(20):
        image, box = transform(WIDE, rng(seed))
        draws = rng(seed)
        crop = random_resized_crop_box(*WIDE.shape[1:], draws)
        cut = WIDE[:, crop[0] : crop[0] + crop[2], crop[1] : crop[1] + crop[3]]
        plain = v2.functional.resize(cut, [24, 80], BICUBIC, antialias=True)
        assert torch.equal(image, plain.flip(2) if draws.random() < 0.5 else plain)
        top, left, height, width = box.tolist()
        assert (top + height <= 24, left + width <= 80) == (True, True)


def test_other_shapes_grow_side_by_side() -> None:
    growth = Growth((64, 120), (192, 352), epochs=4, multiple=32)
    assert [growth(epoch) for epoch in range(6)] == [
        *((64, 120), (96, 160), (128, 224), (160, 288), (192, 352), (192, 352))
    ]
    assert Growth(32, (64, 96), epochs=2)(0) == 32
    with pytest.raises(ValueError, match="sizes rise"):
        Growth((64, 96), (192, 80), epochs=3)
