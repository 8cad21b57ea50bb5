"""Encoded image bytes to uint8 RGB tensors: simplejpeg where it can, Pillow for everything else.

What decoding means here, and where it follows torchvision's and timm's `Image.convert("RGB")`:
grey is repeated to three channels, a palette is looked up, an alpha channel is dropped (not composited), CMYK
and YCCK are converted without a colour profile, the first frame of an animation is taken, and an EXIF
orientation is *not* applied. Where it does not follow: 16-bit grey keeps its high byte, as Pillow itself does
for 16-bit colour (`convert` would clip everything above 255 to white).
"""

from __future__ import annotations

import io
import os
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import simplejpeg
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from hornet_train.errors import SampleError
from hornet_train.untrusted import Refused, read_within

# Only these: Pillow also knows formats that start other programs (EPS) or follow references.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 2 * 89_478_485  # where Pillow raises DecompressionBombError by default
MAX_BYTES = 10**9  # of an encoded image, room for so many pixels without compression

_JPEG_START = b"\xff\xd8\xff"
_NATIVE = frozenset({"YCbCr", "RGB", "Gray"})  # colour spaces libjpeg-turbo turns into RGB by itself
# What Pillow's plugins raise over damaged files; UnidentifiedImageError is an OSError.
_DAMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    LookupError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


def decode(data: bytes, where: str = "an image in memory") -> Tensor:
    """Decode one image.

    Args:
        data: a whole JPEG, PNG, WebP, GIF, BMP or TIFF file.
        where: the path or description that a message shows.

    Returns:
        uint8 (3, H, W), RGB, 0..255. Its memory is channels-last, the layout `resize` is fastest
        on.

    Raises:
        SampleError: empty, not an image, damaged, truncated, or larger than `MAX_PIXELS` or `MAX_BYTES`.
    """
    if not data:
        raise SampleError(where, "the file is empty (0 bytes)")
    if len(data) > MAX_BYTES:
        raise SampleError(where, f"{len(data):,} bytes are more than the {MAX_BYTES:,} allowed")
    try:
        pixels = _decode_jpeg(data, where) if data.startswith(_JPEG_START) else None
        if pixels is None:
            pixels = _decode_pillow(data, where)
    except MemoryError as error:
        raise SampleError(where, "takes more memory than there is", "scale it down or remove it") from error
    return torch.from_numpy(pixels).permute(2, 0, 1)


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """Read and decode one image file.

    Returns:
        uint8 (3, H, W), RGB; see `decode`.

    Raises:
        SampleError: the file cannot be read or decoded; the message names it.
    """
    return decode(read_bytes(path), os.fspath(path))


def read_bytes(path: str | os.PathLike[str], *, waiting: bool = False) -> bytes:
    """A file's content. `waiting`: for a pipe's writer, where a clock runs that ends it.

    Raises:
        SampleError: it cannot be read; the message names it.
    """
    try:
        return read_within(path, MAX_BYTES, waiting=waiting)
    except Refused as error:
        raise SampleError(os.fspath(path), str(error), "scale it down or remove it") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise SampleError(
            os.fspath(path), f"cannot be read ({reason})", "check that it exists and its permissions"
        ) from error


def _decode_jpeg(data: bytes, where: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]] | None:
    """The fast path: uint8 (H, W, 3), or None where Pillow has to judge (CMYK, YCCK, faults)."""
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        if height * width > MAX_PIXELS:
            raise _too_large(where, f"{width}x{height} pixels")
        if colorspace not in _NATIVE:
            return None
        pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = simplejpeg.decode_jpeg(data, "RGB")
    except ValueError:  # strict: also raised for faults that libjpeg mends, which Pillow lets pass
        return None
    return pixels


def _decode_pillow(data: bytes, where: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """uint8 (H, W, 3) by Pillow. Raises SampleError for all that Pillow refuses."""
    try:
        with _no_warnings(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(where, f"{image.width}x{image.height} pixels")
            return _to_rgb(image)
    except Image.DecompressionBombError as error:
        raise _too_large(where, str(error)) from error
    except _DAMAGE as error:
        if isinstance(error, UnidentifiedImageError):
            reason = f"not one of {', '.join(FORMATS)}"
        else:
            reason = str(error) or type(error).__name__
        raise SampleError(where, f"cannot be decoded as an image ({reason})") from error


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Pillow warns of damage in tags, which no pixel depends on, and of sizes below our own limit."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _to_rgb(image: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    if image.mode.startswith("I"):  # 16 bits of grey, in Pillow's words "I;16", "I;16B" or "I"
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same colours; straight to RGB Pillow warns
    return np.array(image.convert("RGB"))  # a copy: torch wants memory it may write to


def _too_large(where: str, size: str) -> SampleError:
    return SampleError(
        where,
        f"{size} is more than the {MAX_PIXELS} allowed (a decompression bomb?)",
        "scale it down or remove it",
    )
