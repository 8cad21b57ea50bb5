"""Mask files and what their values mean."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hornet_train.errors import DataError, SampleError
from hornet_train.tasks.segmentation.mask_coding import coding
from hornet_train.tasks.segmentation.metrics import IGNORED
from hornet_train.tasks.segmentation.sources.named_classes import read_classes

VALUES = np.array([[0, 1, 2], [3, 255, 0]], dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    image.save(file, format=kind)
    return file.getvalue()


def palette_image() -> Image.Image:
    image = Image.fromarray(VALUES)
    image.putpalette([value for number in range(256) for value in (number, 7, 255 - number)])
    assert image.mode == "P"
    return image


@pytest.mark.parametrize("form", ["grey", "palette", "RGB", "grey with alpha", "TIFF"])
def test_grey_and_palette_masks_hold_numbers(form: str) -> None:
    grey = Image.fromarray(VALUES)
    image = {"palette": palette_image(), "RGB": grey.convert("RGB"), "grey with alpha": grey.convert("LA")}
    data = encoded(image.get(form, grey), "TIFF" if form == "TIFF" else "PNG")
    assert coding(4).decode(data, "m.png").tolist() == [[0, 1, 2], [3, IGNORED, 0]]


def test_a_mask_of_one_bit_has_0_and_1() -> None:
    image = Image.fromarray(VALUES > 1)
    assert image.mode == "1"
    assert coding(2).decode(encoded(image), "m.png").tolist() == [[0, 0, 1], [1, 1, 0]]


def test_label_zero_is_reduced_once() -> None:
    reduced = coding(3, reduce_zero_label=True).decode(encoded(Image.fromarray(VALUES)), "m.png")
    assert reduced.tolist() == [[IGNORED, 0, 1], [2, IGNORED, IGNORED]]


def test_chosen_values_are_the_classes_in_their_order() -> None:
    black_and_white = Image.fromarray(np.array([[0, 255]], dtype=np.uint8))
    assert coding(2, values=[255, 0]).decode(encoded(black_and_white), "m.png").tolist() == [[1, 0]]


def test_colours_are_looked_up() -> None:
    pixels = np.array([[[128, 64, 128], [0, 0, 0]], [[1, 2, 3], [128, 64, 128]]], dtype=np.uint8)
    colours = {(128, 64, 128): 0, (1, 2, 3): 1, (0, 0, 0): IGNORED}
    data = encoded(Image.fromarray(pixels))
    assert coding(2, colours=colours).decode(data, "m.png").tolist() == [[0, IGNORED], [1, 0]]
    with pytest.raises(SampleError, match=r"colours that no class has: #010203 \(1 pixels\)"):
        coding(2, colours={(128, 64, 128): 0, (9, 9, 9): 1, (0, 0, 0): 255}).decode(data, "m.png")


def png(header: tuple[int, int, int, int], rows: bytes) -> bytes:
    """A PNG as Pillow writes none: (width, height, bits of a channel, kind of colours), and its rows."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    start = struct.pack(">IIBBBBB", *header, 0, 0, 0)
    body = chunk(b"IHDR", start) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def of_16_bits(channels: int, kind: int) -> bytes:
    """Two pixels of class 3, each channel in two bytes: Pillow drops the lower one, and reads 0."""
    return png((2, 1, 16, kind), b"\0" + b"\0\3" * channels * 2)


def lossy_tiff() -> bytes:
    file = io.BytesIO()
    Image.fromarray(VALUES).save(file, format="TIFF", compression="jpeg")
    return file.getvalue()


GREY = Image.fromarray(VALUES)


@pytest.mark.parametrize(
    ("data", "classes", "said"),
    [
        (encoded(GREY), 3, "values 3, and the 3 classes are 0..2; data.reduce_zero_label=true"),
        (encoded(GREY, "JPEG"), 4, "stored as JPEG, which changes values near borders"),
        (encoded(GREY.convert("RGB"), "WEBP"), 4, "stored as lossy WEBP"),
        (encoded(GREY, "JPEG2000"), 4, "stored as JPEG2000"),
        (lossy_tiff(), 4, "stored as TIFF with jpeg compression"),
        (encoded(Image.fromarray(VALUES.astype(np.uint16))), 4, "more than eight bits a channel"),
        (of_16_bits(2, 4), 4, "more than eight bits a channel"),
        (of_16_bits(3, 2), 4, "more than eight bits a channel"),
        (of_16_bits(4, 6), 4, "more than eight bits a channel"),
        (b"P5 2 1 9 \1\2", 4, "greatest value is said to be 9; store masks as PNG"),
        (encoded(Image.new("RGB", (2, 2), (1, 2, 3))), 2, "in colours .*data.classes=<a file with lines of"),
    ],
)
def test_masks_that_cannot_be_meant_are_refused(data: bytes, classes: int, said: str) -> None:
    with pytest.raises(SampleError, match=said) as error:
        coding(classes).decode(data, "folder/m.png")
    assert str(error.value).startswith("folder/m.png: ")


def test_grey_masks_of_few_bits_have_the_values_of_the_file() -> None:
    """Pillow spreads them over 0..255."""
    assert coding(4).decode(png((4, 1, 2, 0), b"\0\x1b"), "m.png").tolist() == [[0, 1, 2, 3]]
    assert coding(16).decode(png((2, 1, 4, 0), b"\0\x1f"), "m.png").tolist() == [[1, 15]]


def test_white_is_ignored_unless_it_is_said_to_be_a_class() -> None:
    data = encoded(Image.fromarray(np.eye(3, dtype=np.uint8) * 255))
    assert coding(2).decode(data, "m.png").tolist()[0] == [IGNORED, 0, 0]


def test_masks_of_webp_without_loss_are_read() -> None:
    file = io.BytesIO()
    GREY.convert("RGB").save(file, format="WEBP", lossless=True)
    assert coding(4).decode(file.getvalue(), "m.webp").tolist() == [[0, 1, 2], [3, IGNORED, 0]]


def test_a_value_is_not_both_ignored_and_a_class() -> None:
    with pytest.raises(
        ValueError, match=r"data\.ignore=1 is the value of a class, number 1: data\.values=\[0, 2\]"
    ):
        coding(3, ignore=(1,))
    with pytest.raises(ValueError, match=r"data\.reduce_zero_label=true leaves it out"):
        coding(3, ignore=(0,))


def test_a_damaged_mask_is_named() -> None:
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 9, (60, 60), dtype=np.uint8)))
    for data in (b"", b"no image", whole[: len(whole) // 2]):
        with pytest.raises(SampleError, match=r"^m\.png: the mask"):
            coding(9).decode(data, "m.png")


def test_what_means_nothing_never_becomes_a_class() -> None:
    stored = torch.arange(256, dtype=torch.uint8)
    found = coding(5).classes_of(stored)
    assert found[:5].tolist() == [0, 1, 2, 3, 4]
    assert set(found[5:255].tolist()) == {254}
    assert int(found[255]) == IGNORED


def test_classes_are_read_with_their_colours(tmp_path: Path) -> None:
    file = tmp_path / "classes.txt"
    file.write_text("road,#804080\n\nside walk 244 35 232\nsky;70;130;180\n")
    found = read_classes(file)
    assert found.names == ("road", "side walk", "sky")
    assert found.colours == ((128, 64, 128), (244, 35, 232), (70, 130, 180))
    file.write_text("road\nclass 5\n", encoding="utf-8-sig")  # as Windows' editors write it
    assert read_classes(file).names == ("road", "class 5")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no class"),
        ("a\nb\na\n", "the name a is there twice"),
        ("a,#000000\nb,#000000\n", "the colour .* is there twice"),
        ("a,#000000\nb\n", "'b' has no colour"),
        ("a 300 0 0\n", "above 255"),
    ],
)
def test_classes_that_are_not_clear_are_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "classes.txt"
    file.write_text(text)
    with pytest.raises(DataError, match=said):
        read_classes(file)
