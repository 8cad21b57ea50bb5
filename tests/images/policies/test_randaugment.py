"""RandAugment is compared with Pillow for each operation, and with timm for each level."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from skimage import data
from timm.data import auto_augment as timm_aa
from torch import Tensor

from hornet_train.images import pillow_ops
from hornet_train.images.policies.randaugment import INCREASING, PLAIN, RandAugment, apply, level_to_value

FILL = (124, 116, 104)
RECIPE = "rand-m9-mstd0.5-inc1"
GEOMETRIC = ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

IMAGES = {
    "astronaut": Image.fromarray(data.astronaut()).crop((40, 0, 440, 360)).resize((112, 96)),
    "dull": Image.fromarray(data.chelsea()[:96, :112] // 3 + 40),
    "flat": Image.new("RGB", (40, 30), (7, 128, 255)),
    "tiny": Image.fromarray(data.astronaut()[100:102, 200:205]),
}


def tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def differences(ours: Tensor, theirs: Image.Image) -> Tensor:
    return (ours.int() - tensor(theirs).int()).abs()


def _affine(matrix: Callable[[float, Image.Image], tuple[float, ...]]) -> Callable[..., Image.Image]:
    def transform(image: Image.Image, value: float, resample: Image.Resampling) -> Image.Image:
        return image.transform(
            image.size, Image.Transform.AFFINE, matrix(value, image), resample, fillcolor=FILL
        )

    return transform


def _solarize_add(image: Image.Image, add: float) -> Image.Image:
    return image.point([min(255, v + int(add)) if v < 128 else v for v in range(256)] * 3)


def _posterize(image: Image.Image, bits: float) -> Image.Image:
    return ImageOps.posterize(image, int(bits)) if bits else Image.new("RGB", image.size)


# The operations as timm defines them, done by Pillow.
PILLOW: dict[str, Callable[..., Image.Image]] = {
    "AutoContrast": lambda image, _: ImageOps.autocontrast(image),
    "Equalize": lambda image, _: ImageOps.equalize(image),
    "Invert": lambda image, _: ImageOps.invert(image),
    "Posterize": _posterize,
    "Solarize": lambda image, value: ImageOps.solarize(image, int(value)),
    "SolarizeAdd": _solarize_add,
    "Color": lambda image, value: ImageEnhance.Color(image).enhance(value),
    "Contrast": lambda image, value: ImageEnhance.Contrast(image).enhance(value),
    "Brightness": lambda image, value: ImageEnhance.Brightness(image).enhance(value),
    "Sharpness": lambda image, value: ImageEnhance.Sharpness(image).enhance(value),
    "Rotate": lambda image, value, resample: image.rotate(value, resample, fillcolor=FILL),
    "ShearX": _affine(lambda value, _: (1, value, 0, 0, 1, 0)),
    "ShearY": _affine(lambda value, _: (1, 0, 0, value, 1, 0)),
    "TranslateXRel": _affine(lambda value, image: (1, 0, value * image.width, 0, 1, 0)),
    "TranslateYRel": _affine(lambda value, image: (1, 0, 0, 0, 1, value * image.height)),
}


@pytest.mark.parametrize("picture", IMAGES)
@pytest.mark.parametrize("name", sorted({*INCREASING, *PLAIN} - set(GEOMETRIC)))
def test_pixel_operations_are_pillows(name: str, picture: str) -> None:
    image = IMAGES[picture]
    before = tensor(image).clone()
    for level in np.linspace(0, 10, 21):
        for seed in (0, 1, 2):  # both signs
            value = level_to_value(name, level, np.random.default_rng(seed))
            ours = apply(name, before, value)
            theirs = PILLOW[name.removesuffix("Increasing")](image, value)
            assert differences(ours, theirs).max() <= 1, (level, value)
    assert torch.equal(before, tensor(image)), "the input image was changed"


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("name", GEOMETRIC)
def test_geometric_operations_are_pillows(name: str, interpolation: pillow_ops.Interpolation) -> None:
    image = IMAGES["astronaut"]
    for level in np.linspace(0, 10, 11):
        for seed in (0, 1, 2):
            value = level_to_value(name, level, np.random.default_rng(seed))
            ours = apply(name, tensor(image), value, FILL, interpolation)
            apart = differences(ours, PILLOW[name](image, value, FILTERS[interpolation])).float()
            # equal except for sums just below an integer, which float32 may round up to it
            assert apart.max() <= 1, (level, value)
            assert apart.mean() < 0.05, (level, value)
    unmoved = apply(name, tensor(image), 0.0, FILL, interpolation)
    assert torch.equal(unmoved, tensor(image))


@pytest.mark.parametrize("name", sorted({*INCREASING, *PLAIN}))
def test_levels_are_timms(name: str) -> None:
    level_function = timm_aa.LEVEL_TO_ARG[name]
    for level in np.linspace(0, 10, 41):
        ours = {level_to_value(name, level, np.random.default_rng(seed)) for seed in range(20)}
        if level_function is None:
            assert ours == {0}
        else:
            theirs = {level_function(level, {})[0] for _ in range(30)}
            assert sorted(ours) == pytest.approx(sorted(theirs))


def test_sets_are_timms() -> None:
    assert list(INCREASING) == timm_aa._RAND_INCREASING_TRANSFORMS
    assert list(PLAIN) == timm_aa._RAND_TRANSFORMS


def test_grammar() -> None:
    assert RandAugment.parse(RECIPE) == RandAugment(magnitude=9, noise=0.5, increasing=True)
    assert RandAugment.parse("rand") == RandAugment(10, layers=2, prob=0.5, noise=0, increasing=False)
    everything = RandAugment.parse("rand-n3-p0.75-mmax15-m12-mstd101-inc0", fill=(1, 2, 3))
    assert everything == RandAugment(12, 3, 0.75, 101, 15, False, (1, 2, 3))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("augmix-m3", "'augmix'"),
        ("rand-m9-w0", "'w0'"),
        ("rand-tweights", "'tweights'"),
        ("rand-m9-", "''"),
        ("rand-m", "'m'"),
        ("rand-m9-m8", "'m8'"),
        ("rand-m9.5", "'m9.5'"),
        ("rand-p1.5", "'p1.5'"),
        ("rand-inc2", "'inc2'"),
        ("rand-mstd.5", "'mstd.5'"),
    ],
)
def test_errors_name_the_wrong_part(text: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        RandAugment.parse(text)


def test_decisions_come_from_the_generator_alone() -> None:
    image = tensor(IMAGES["astronaut"])
    augment = pickle.loads(pickle.dumps(RandAugment.parse(RECIPE, interpolation="random")))
    first = [augment(image, np.random.default_rng((5, index))) for index in range(40)]
    torch.manual_seed(1)
    np.random.seed(1)  # the global generators must have no influence
    again = [augment(image, np.random.default_rng((5, index))) for index in reversed(range(40))]
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(again), strict=True))
    unchanged = sum(torch.equal(result, image) for result in first)
    assert 2 <= unchanged <= 20  # a quarter draw no operation at all
    assert len({result.numpy().tobytes() for result in first}) > 20


def test_operations_and_levels_have_the_configured_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, float]] = []

    def record(name: str, level: float, rng: np.random.Generator) -> float:
        seen.append((name, level))
        return level_to_value(name, level, rng)

    monkeypatch.setattr("hornet_train.images.policies.randaugment.level_to_value", record)
    image = tensor(IMAGES["flat"])
    rng = np.random.default_rng(0)
    augment = RandAugment.parse(RECIPE)
    for _ in range(1500):
        augment(image, rng)
    counts = Counter(name for name, _ in seen)
    assert set(counts) == set(INCREASING)
    assert 1400 < len(seen) < 1600  # 1500 images, 2 layers, probability a half
    assert min(counts.values()) > 60
    levels = np.array([level for _, level in seen])
    assert levels.max() == 10  # clipped
    assert 8.95 < levels.mean() < 9.05
    assert 0.45 < levels.std() < 0.5  # below 0.5, since levels are clipped
