"""Mask files and what their values mean."""

from __future__ import annotations

import io
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


@pytest.mark.parametrize(
    ("image", "kind", "classes", "said"),
    [
        (
            Image.fromarray(VALUES),
            "PNG",
            3,
            "values 3, and the 3 classes are 0..2; data.reduce_zero_label=true",
        ),
        (Image.fromarray(VALUES), "JPEG", 4, "stored as JPEG, which changes values near borders"),
        (Image.fromarray(VALUES.astype(np.uint16)), "PNG", 4, "more than eight bits a pixel"),
        (Image.fromarray(np.eye(3, dtype=np.uint8) * 255), "PNG", 2, "JPEG"),
        (
            Image.new("RGB", (2, 2), (1, 2, 3)),
            "PNG",
            2,
            "in colours .*data.classes=<a file with lines of name",
        ),
    ],
)
def test_masks_that_cannot_be_meant_are_refused(
    image: Image.Image, kind: str, classes: int, said: str
) -> None:
    if said == "JPEG":  # black and white: 255 is ignored unless it is said to be a class
        assert coding(2).decode(encoded(image), "m.png").tolist()[0] == [IGNORED, 0, 0]
        return
    with pytest.raises(SampleError, match=said) as error:
        coding(classes).decode(encoded(image, kind), "folder/m.png")
    assert str(error.value).startswith("folder/m.png: ")


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
    file.write_text("road\nclass 5\n")
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
