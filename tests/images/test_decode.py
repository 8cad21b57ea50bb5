"""Decoded files of the kinds found in data sets are compared with Pillow's `convert("RGB")`."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from hornet_train.errors import DataError
from hornet_train.images import decode as module
from hornet_train.images.decode import decode, read_image

ASTRONAUT = Image.fromarray(data.astronaut()).crop((60, 0, 381, 243))


def _palette_with_bytes_transparency() -> Image.Image:
    image = ASTRONAUT.quantize(16)
    image.info["transparency"] = bytes(range(0, 256, 16))
    return image


def _rgba() -> Image.Image:
    image = ASTRONAUT.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    return image


CASES = {
    "baseline.jpg": (ASTRONAUT, {}),
    "progressive.JPEG": (ASTRONAUT, {"progressive": True}),
    "full_chroma.jpg": (ASTRONAUT, {"subsampling": 0}),
    "rgb.jpg": (ASTRONAUT, {"keep_rgb": True}),
    "grey.jpg": (ASTRONAUT.convert("L"), {}),
    "cmyk.jpg": (ASTRONAUT.convert("CMYK"), {}),
    "rgb.png": (ASTRONAUT, {}),
    "grey.png": (ASTRONAUT.convert("L"), {}),
    "one_bit.png": (ASTRONAUT.convert("1"), {}),
    "alpha.png": (_rgba(), {}),
    "grey_alpha.png": (_rgba().convert("LA"), {}),
    "palette.png": (ASTRONAUT.quantize(16), {}),
    "palette_transparent.png": (_palette_with_bytes_transparency(), {}),
    "lossy.webp": (ASTRONAUT, {}),
    "alpha.webp": (_rgba(), {"lossless": True, "exact": True}),
    "first_frame.gif": (ASTRONAUT, {}),
}


@pytest.mark.parametrize("name", CASES)
def test_decodes_as_pillow_converts(name: str, tmp_path: Path) -> None:
    image, options = CASES[name]
    path = tmp_path / name
    image.save(path, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ours = read_image(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1)
    assert ours.dtype == torch.uint8
    assert ours.shape == (3, 243, 321)
    assert (ours.int() - theirs.int()).abs().max() <= 1


def test_of_sixteen_bit_grey_the_high_byte_is_taken(tmp_path: Path) -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(values).save(tmp_path / "deep.png")
    ours = read_image(tmp_path / "deep.png").numpy()
    assert (ours == (values >> 8)[None]).all()


def test_orientation_tag_is_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    ASTRONAUT.save(tmp_path / "turned.jpg", exif=exif)
    ASTRONAUT.save(tmp_path / "plain.jpg")
    assert torch.equal(read_image(tmp_path / "turned.jpg"), read_image(tmp_path / "plain.jpg"))


def test_the_format_is_taken_from_the_content_not_the_name(tmp_path: Path) -> None:
    ASTRONAUT.save(tmp_path / "x.png")
    renamed = (tmp_path / "x.png").rename(tmp_path / "x.JPEG")  # ImageNet has such a file
    assert read_image(renamed).shape == (3, 243, 321)


def _bytes(kind: str) -> bytes:
    buffer = io.BytesIO()
    ASTRONAUT.save(buffer, kind)
    return buffer.getvalue()


BROKEN = {
    "empty.jpg": b"",
    "text.jpg": b"<html>404 Not Found</html>",
    "head_only.jpg": b"\xff\xd8\xff",
    "script.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "truncated.jpg": _bytes("JPEG")[:9000],
    "truncated.png": _bytes("PNG")[:9000],
    "truncated.webp": _bytes("WEBP")[:3000],
    "bad_chunk.png": _bytes("PNG")[:20] + b"\x00" * 40 + _bytes("PNG")[60:],
}


@pytest.mark.parametrize("name", BROKEN)
def test_damaged_files_are_reported_with_the_path(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(BROKEN[name])
    with pytest.raises(DataError, match="fetch it again or remove it") as caught:
        read_image(path)
    assert str(path) in str(caught.value)


def test_a_missing_file_is_reported_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jpg: cannot be read \(No such file"):
        read_image(tmp_path / "gone.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_decompression_bombs_are_refused_before_decoding(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_PIXELS", 321 * 243 - 1)
    with pytest.raises(DataError, match=r"sample 7: 321x243 pixels is more than .* allowed"):
        decode(_bytes(kind), "sample 7")


def test_pillows_bomb_error_becomes_a_data_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="decompression bomb"):
        decode(_bytes("PNG"))
