"""Feeds mutated image files to `decode`: python fuzz_decoder.py <first> <count>.

Prints the number of each file before it is decoded.
test_decode_fuzz runs it as a separate process, so that a crash or a hang does not take the tests with it.
"""

from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from skimage import data

from hornet_train.errors import SampleError
from hornet_train.images.decode import decode


def seeds() -> list[bytes]:
    """Small files of every format, and of the unusual kinds that occur in data sets."""
    picture = Image.fromarray(data.astronaut()).crop((150, 0, 246, 72))
    deep = Image.fromarray((np.arange(48 * 64, dtype=np.uint16) * 20).reshape(48, 64))
    kinds: list[tuple[Image.Image, str, dict[str, object]]] = [
        (picture, "JPEG", {}),
        (picture, "JPEG", {"progressive": True, "quality": 60}),
        (picture, "JPEG", {"subsampling": 0, "exif": b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\x00\x00"}),
        (picture.convert("L"), "JPEG", {}),
        (picture.convert("CMYK"), "JPEG", {}),
        (picture, "PNG", {}),
        (picture.convert("P"), "PNG", {"transparency": 3}),
        (picture.convert("RGBA"), "PNG", {}),
        (deep, "PNG", {}),
        (picture, "WEBP", {}),
        (picture, "WEBP", {"lossless": True}),
        (picture.convert("P"), "GIF", {}),
        (picture, "BMP", {}),
        (picture, "TIFF", {}),
        (picture, "TIFF", {"compression": "tiff_lzw"}),
    ]
    files = []
    for image, name, options in kinds:
        file = io.BytesIO()
        image.save(file, name, **options)
        files.append(file.getvalue())
    return files


def _flip(file: bytearray, rng: np.random.Generator, _other: bytes) -> bytearray:
    for at in rng.integers(len(file), size=rng.integers(1, 20)):
        file[at] ^= 1 << rng.integers(8)
    return file


def _header(file: bytearray, rng: np.random.Generator, _other: bytes) -> bytearray:
    for at in rng.integers(min(len(file), 700), size=rng.integers(1, 6)):
        file[at] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256)])
    return file


def _cut(file: bytearray, rng: np.random.Generator, _other: bytes) -> bytearray:
    return file[: rng.integers(len(file))]


def _drop(file: bytearray, rng: np.random.Generator, _other: bytes) -> bytearray:
    start, stop = sorted(rng.integers(len(file), size=2))
    return file[:start] + file[stop:]


def _splice(file: bytearray, rng: np.random.Generator, other: bytes) -> bytearray:
    return file[: rng.integers(len(file))] + other[rng.integers(len(other)) :]


def _repeat(file: bytearray, rng: np.random.Generator, _other: bytes) -> bytearray:
    start, stop = sorted(rng.integers(len(file), size=2))
    return file[:stop] + file[start:]


MUTATIONS: list[Callable[[bytearray, np.random.Generator, bytes], bytearray]] = [
    _flip, _header, _header, _cut, _drop, _splice, _repeat,
]  # fmt: skip


def mutated(number: int, files: list[bytes]) -> bytes:
    """Mutated file `number`, which depends on the number alone."""
    rng = np.random.default_rng(number)
    file = bytearray(files[rng.integers(len(files))])
    for _ in range(rng.integers(1, 4)):
        if file:
            file = MUTATIONS[rng.integers(len(MUTATIONS))](file, rng, files[rng.integers(len(files))])
    return bytes(file)


def main(first: int, count: int) -> None:
    """Decode `count` files; each must give an image or a SampleError, and nothing else."""
    warnings.simplefilter("error")  # damaged files must not cause warnings either
    files = seeds()
    refused = 0
    for number in range(first, first + count):
        print(number, flush=True)  # noqa: T201 - the last number printed is the file that crashed
        try:
            image = decode(mutated(number, files), "a mutated file")
        except SampleError:
            refused += 1
        else:
            assert image.dtype == torch.uint8
            assert image.shape[0] == 3
            assert min(image.shape) > 0
    assert 0 < refused < count
    print("done", refused)  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
