"""Read a mask file: its values as they were meant, or an error that says why they are not there."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from hornet_train.errors import SampleError
from hornet_train.images.damaged import DAMAGED_FILE_ERRORS
from hornet_train.images.formats import FORMATS, MAX_PIXELS
from hornet_train.images.layout import Pixels

_LOSSY = ("JPEG", "MPO", "AVIF", "JPEG2000")
_PNG_BITS = 24  # where a PNG has the bits of a channel
_TIFF_BITS = 258  # the tag of a TIFF that has them
_PGM = re.compile(rb"P[25](?:\s+(?:#[^\n]*\n)*\s*\d+){2}\s+(?:#[^\n]*\n)*\s*(\d+)")  # its greatest value


def read_mask(data: bytes, where: str, *, in_colour: bool) -> Pixels:
    """The stored values of a mask: uint8 (H, W); its colours, uint8 (H, W, 3), where these say the classes.

    Of a palette image the values are the places in the palette, of grey ones of 1, 2 or 4 bits those of the
    file. Transparency is left out.

    Raises:
        SampleError: it is no image, damaged, lossy, or of more than eight bits.
    """
    if not data:
        raise SampleError(where, "the mask is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(data), formats=tuple(FORMATS)) as image:
            bits = _bits(image, data, where)
            if lossy := _lossy(image, data):
                raise SampleError(
                    where,
                    f"the mask is stored as {lossy}, which changes values near borders",
                    "store masks as PNG, from the originals",
                )
            if image.width * image.height > MAX_PIXELS:
                raise SampleError(where, f"{image.width}x{image.height} pixels are too many for a mask")
            if bits > 8:
                raise SampleError(
                    where,
                    f"the mask has more than eight bits a channel (mode {image.mode}, {bits} bits)",
                    "store the number of each pixel's class in eight bits",
                )
            values = _values(image, where, in_colour=in_colour)
            # Pillow spreads these over 0..255
            return values // (255 // (2**bits - 1)) if image.mode == "L" and bits in (2, 4) else values
    except DAMAGED_FILE_ERRORS as error:
        if isinstance(error, UnidentifiedImageError):
            reason = f"the mask is not one of {', '.join(FORMATS)}"
        else:
            reason = f"the mask cannot be decoded ({str(error) or type(error).__name__})"
        raise SampleError(where, reason) from error


def _bits(image: Image.Image, data: bytes, where: str) -> int:
    """Of a channel, as stored; Pillow opens most pictures of sixteen as ones of eight."""
    if image.mode.startswith(("I", "F")):
        return 16 if image.mode.startswith("I;16") else 32
    if image.format == "PNG":
        return data[_PNG_BITS]
    if image.format == "TIFF":
        stored: Any = image
        return int(max(stored.tag_v2.get(_TIFF_BITS, (8,))))
    if image.format == "PPM" and image.mode != "1":
        header = _PGM.match(data)
        most = int(header[1]) if header else 0
        if most & (most + 1):  # Pillow would scale values to 0..255
            raise SampleError(where, f"the mask's greatest value is said to be {most}", "store masks as PNG")
        return most.bit_length()
    return 8


def _lossy(image: Image.Image, data: bytes) -> str | None:
    """How a mask is stored that has other values than it had before; None where it has not."""
    if image.format in _LOSSY:
        return image.format
    if image.format == "WEBP" and b"VP8 " in _webp_chunks(data):
        return "lossy WEBP"
    if image.format == "TIFF" and image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp"):
        return f"TIFF with {image.info['compression']} compression"
    return None


def _webp_chunks(data: bytes) -> set[bytes]:
    """The names of the chunks of a WebP file, those of animations' frames too."""
    found, place = set[bytes](), 12
    while place + 8 <= len(data):
        name, length = data[place : place + 4], int.from_bytes(data[place + 4 : place + 8], "little")
        found.add(name)
        place += 24 if name == b"ANMF" else 8 + length + length % 2
    return found


def _values(image: Image.Image, where: str, *, in_colour: bool) -> Pixels:
    if in_colour:
        return np.array(image.convert("RGB"))
    if image.mode in ("P", "L", "1"):
        return np.array(image, dtype=np.uint8)
    if image.mode in ("LA", "La", "PA"):
        return np.array(image.getchannel(0), dtype=np.uint8)
    colours_HWC = np.asarray(image.convert("RGB"))
    grey_HW = colours_HWC[:, :, 0]
    if not (colours_HWC == grey_HW[:, :, None]).all():
        raise SampleError(
            where,
            f"the mask is in colours ({image.mode}), and nothing says which class each one means",
            "give data.classes=<a file with lines of name,#rrggbb>",
        )
    return grey_HW.copy()
