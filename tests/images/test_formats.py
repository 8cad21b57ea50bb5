"""Every format that the decoder reads is a picture everywhere, in the colours that Pillow gives it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from helpers import run
from PIL import Image, TiffImagePlugin
from skimage import data

from hornet_train.images.decode import decode, read_image
from hornet_train.images.formats import EXTENSIONS, FORMATS, format_of
from hornet_train.tasks.classification.sources import FolderSource, open_shards

OF_EXTENSION = {extension: kind for kind, some in FORMATS.items() for extension in some}


def picture(top: int = 0) -> Image.Image:
    return Image.fromarray(data.astronaut()[top : top + 40, 100:150])


def encoded(kind: str, image: Image.Image, **more: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **more)
    return file.getvalue()


@pytest.mark.parametrize("kind", FORMATS)
def test_each_is_decoded_as_pillow_does(kind: str) -> None:
    content = encoded(kind, picture())
    assert format_of(content) == kind
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    found = decode(content).permute(1, 2, 0).numpy()
    assert np.abs(found.astype(int) - expected).max() <= (2 if kind == "JPEG" else 0)  # two JPEG decoders


def test_names_of_all_kinds_are_pictures_in_folders_and_tars(tmp_path: Path) -> None:
    for number, (extension, kind) in enumerate(OF_EXTENSION.items()):
        for label in ("cat", "dog"):
            folder = tmp_path / "photos" / "train" / label
            folder.mkdir(parents=True, exist_ok=True)
            name = f"p{number}{extension.upper() if number % 2 else extension}"
            (folder / name).write_bytes(encoded(kind, picture(number)))
    for name in ("notes.txt", "a.mp4", "b.MP4", "Makefile", ".hidden.jpg"):
        (tmp_path / "photos/train/cat" / name).write_text("no picture")
    source = FolderSource(tmp_path / "photos", "train")
    assert len(source) == 2 * len(EXTENSIONS)
    assert source.ignored == {".txt": 1, ".mp4": 2, "no extension": 1, "a dot before the name": 1}
    for index in range(len(source)):
        assert read_image(source.locate(index)).shape == (3, 40, 50)
    root, out = str(tmp_path / "photos"), str(tmp_path / "tars")
    checked = run("hornet-data", "check", root, "--splits", "train", "--workers", "1")
    assert "train: 34 of 34 images decode, 0 damaged" in checked.stdout
    assert "called" not in checked.stdout
    packed = run(
        "hornet-data", "pack", root, out, "--format", "webdataset", "--shards", "1", "--workers", "1"
    )
    assert packed.returncode == 0, packed.stderr
    shards = open_shards(out, "train")
    assert sum(shards.lengths) == len(source)
    assert all(decode(fields["image"].data).shape == (3, 40, 50) for fields in shards.read(0, 0))


def test_an_animation_gives_its_first_frame() -> None:
    frames = [picture(0), picture(200)]
    for kind in ("GIF", "WEBP", "AVIF", "PNG", "TIFF"):
        content = encoded(kind, frames[0], save_all=True, append_images=frames[1:])
        first = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
        assert np.abs(decode(content).permute(1, 2, 0).numpy() - first).max() == 0
        assert np.abs(first - np.asarray(frames[0])).mean() < 12


def test_twelve_bits_that_a_tiff_declares_have_their_full_range(tmp_path: Path) -> None:
    grey = (np.asarray(picture().convert("L")).astype(np.uint16) * 4095 // 255).astype(np.uint16)
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[281] = 4095
    image = Image.fromarray(grey)
    plain, declared = encoded("TIFF", image), encoded("TIFF", image, tiffinfo=tags)
    assert np.array_equal(decode(declared)[0].numpy(), (grey >> 4).astype(np.uint8))
    assert np.array_equal(decode(plain)[0].numpy(), (grey >> 8).astype(np.uint8))
    for label in ("cat", "dog"):
        (tmp_path / "train" / label).mkdir(parents=True)
        (tmp_path / "train" / label / "a.tif").write_bytes(plain)
    checked = run("hornet-data", "check", str(tmp_path), "--splits", "train", "--workers", "1")
    assert "warning: train: 2 images without a pixel above 15 of 255: are these 12 bits" in checked.stdout
