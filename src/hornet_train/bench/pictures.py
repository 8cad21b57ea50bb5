"""JPEGs to benchmark a loader with: crops of scikit-image's and scikit-learn's sample pictures.

They have 500 x 375 pixels and about 75 kB, much like those of ImageNet.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from hornet_train.errors import DataError

WIDTH, HEIGHT = 500, 375
BYTES = 75_000
_QUALITIES = (50, 98)
_CLASSES = 10


def make_pictures(root: Path, *, different: int, files: int) -> None:
    """Write `root/train/<class>/*.jpg`.

    Args:
        root: an empty folder.
        different: number of distinct pictures.
        files: number of files; those beyond `different` are hard links to earlier ones.

    Raises:
        DataError: scikit-image is not installed.
    """
    sources = source_pictures()
    rng = np.random.default_rng(0)
    for k in range(_CLASSES):
        (root / "train" / f"class_{k}").mkdir(parents=True)
    for i in range(files):
        path = root / "train" / f"class_{i % _CLASSES}" / f"{i:06}.jpg"
        if i < different:
            path.write_bytes(encoded(cut_picture(sources[i % len(sources)], rng)))
        else:
            first = i % different
            os.link(root / "train" / f"class_{first % _CLASSES}" / f"{first:06}.jpg", path)


def source_pictures() -> list[Image.Image]:
    """The sample pictures of both packages.

    Raises:
        DataError: scikit-image is not installed.
    """
    from sklearn.datasets import load_sample_images

    try:
        from skimage import data
    except ImportError as error:
        raise DataError(
            "the JPEGs are made from pictures of scikit-image, which is missing: pip install scikit-image"
        ) from error
    arrays = [
        *(data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), data.retina()),
        *(data.hubble_deep_field(), data.immunohistochemistry()),
        *load_sample_images().images,
    ]
    return [Image.fromarray(array) for array in arrays]


def cut_picture(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A random crop at a random scale, 500 x 375 pixels."""
    scale = max(WIDTH / picture.width, HEIGHT / picture.height) * rng.uniform(1, 1.4)
    size = [
        max(least, round(side * scale)) for least, side in ((WIDTH, picture.width), (HEIGHT, picture.height))
    ]
    scaled = picture.resize((size[0], size[1]), Image.Resampling.BICUBIC)
    left, top = (
        int(rng.integers(side - least + 1)) for side, least in zip(size, (WIDTH, HEIGHT), strict=True)
    )
    return scaled.crop((left, top, left + WIDTH, top + HEIGHT))


def encoded(picture: Image.Image) -> bytes:
    """A JPEG of the highest quality that stays below `BYTES`."""
    low, high = _QUALITIES
    best = b""
    while low <= high:
        quality = (low + high) // 2
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        if file.tell() <= BYTES or not best:
            best = file.getvalue()
        low, high = (quality + 1, high) if file.tell() <= BYTES else (low, quality - 1)
    return best
