"""EXIF orientation: photos turned exactly as by Pillow, whatever the format, and never harmed by damage."""

from __future__ import annotations

import io

import numpy as np
import pytest
from pictures import PHOTO
from PIL import ExifTags, Image, ImageOps

from hornet_train.errors import SampleError
from hornet_train.images.decode import decode, decode_with_orientation
from hornet_train.images.orientation import exif_of, jpeg_orientation

SMALL = PHOTO.resize((23, 14))


def encoded(kind: str, orientation: int, image: Image.Image = SMALL) -> bytes:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(buffer, kind, exif=exif)
    return buffer.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image)
        assert upright is not None
        return np.asarray(upright.convert("RGB"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_by_pillow(kind: str, orientation: int) -> None:
    data = encoded(kind, orientation)
    found = decode(data, exif="apply").permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, by_pillow(data))
    as_stored, said = decode_with_orientation(data, "x")
    assert said == (1 if kind == "TIFF" else orientation)  # which Pillow turns by itself
    np.testing.assert_array_equal(decode(data).numpy(), as_stored.numpy())
    if kind == "JPEG":
        assert tuple(as_stored.shape) == (3, 14, 23)


def test_cmyk_which_pillow_decodes_and_xmp_are_turned_too() -> None:
    data = encoded("JPEG", 6, SMALL.convert("CMYK"))
    np.testing.assert_array_equal(decode(data, exif="apply").permute(1, 2, 0).numpy(), by_pillow(data))
    buffer = io.BytesIO()
    SMALL.save(buffer, "JPEG", xmp=b'<x:xmpmeta tiff:Orientation="8"/>')
    assert jpeg_orientation(buffer.getvalue()) == 8
    np.testing.assert_array_equal(
        decode(buffer.getvalue(), exif="apply").permute(1, 2, 0).numpy(), by_pillow(buffer.getvalue())
    )


@pytest.mark.parametrize("value", [0, 9, 255, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(value: int) -> None:
    assert tuple(decode(encoded("JPEG", value), exif="apply").shape) == (3, 14, 23)


def test_damaged_exif_never_costs_the_picture() -> None:
    """Each byte of the tags replaced: the pixels are those stored, perhaps turned, and nothing is raised."""
    data = encoded("JPEG", 6)
    start = data.index(b"Exif")
    pixels = decode(data).numpy()
    for at in range(start, start + len(exif_of(6))):
        for byte in (0, 0x7F, 0xFF):
            harmed = bytearray(data)
            harmed[at] = byte
            found = decode(bytes(harmed), exif="apply").numpy()
            assert sorted(found.shape) == sorted(pixels.shape)
            assert found.sum() == pixels.sum()
    cut = data[: start + 9] + data[start + 9 + 4 :]  # the segment is shorter than it says
    assert jpeg_orientation(cut) in range(1, 9)
    assert jpeg_orientation(data[:20]) == jpeg_orientation(b"\xff\xd8\xff") == 1


def test_a_jpeg_without_exif_costs_no_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    SMALL.save(buffer, "JPEG")
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("parsed by Pillow"))
    assert tuple(decode(buffer.getvalue(), exif="apply").shape) == (3, 14, 23)


def test_a_damaged_avif_counts_as_damaged() -> None:
    data = encoded("AVIF", 1, PHOTO.resize((64, 64)))
    start = data.index(b"mdat")
    for at in range(start + 8, len(data), 7):
        data = data[:at] + b"\xff" + data[at + 1 :]
    with pytest.raises(SampleError):
        decode(data)
