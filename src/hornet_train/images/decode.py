"""Decode encoded images to uint8 RGB tensors: JPEG by simplejpeg if possible, everything else by Pillow.

The result is that of Pillow's `Image.convert("RGB")`, as in torchvision and timm: grey is repeated to three
channels, a palette is looked up, an alpha channel is dropped (not composited), CMYK and YCCK are converted
without a colour profile, an animation gives its first frame, and an EXIF orientation is *not* applied unless
it is asked for (that of a TIFF always is, by Pillow). One difference: of 16-bit grey the high byte is taken,
as Pillow itself does for 16-bit colour (`convert` would clip everything above 255 to white); or the highest
eight bits of the range that a TIFF says it uses (MaxSampleValue, 4,095 for 12 bits).

Layout suffixes: `x_CHW` is channels, height, width; `x_HWC` has the channels last.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import simplejpeg
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from hornet_train.errors import PictureTooLarge, SampleError
from hornet_train.images.damaged import DAMAGED_FILE_ERRORS
from hornet_train.images.formats import FORMATS, MAX_PIXELS
from hornet_train.images.orientation import UPRIGHT, Exif, jpeg_orientation, orientation_of, turned
from hornet_train.untrusted import Refused, read_within

MAX_BYTES = 10**9  # of an encoded image: enough for MAX_PIXELS without compression

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

_MAX_SAMPLE_VALUE = 281  # a tag of TIFF
_JPEG_START = b"\xff\xd8\xff"
_SIMPLEJPEG_COLORSPACES = frozenset({"YCbCr", "RGB", "Gray"})  # those libjpeg-turbo converts to RGB


def decode(data: bytes, where: str = "an image in memory", exif: Exif = "ignore") -> Tensor:
    """Decode one image.

    Args:
        data: the bytes of a complete file of one of `FORMATS`.
        where: a path or description for error messages.
        exif: whether to turn it as its EXIF orientation says.

    Returns:
        uint8 (3, H, W), RGB, 0..255, in channels-last memory, on which `resize` is fastest.

    Raises:
        SampleError: the data is empty, not an image, damaged, truncated, or larger than `MAX_PIXELS` or
            `MAX_BYTES`.
    """
    pixels_HWC, orientation = _decode(data, where, with_orientation=exif == "apply")
    return turned(torch.from_numpy(pixels_HWC), orientation).permute(2, 0, 1)


def decode_with_orientation(data: bytes, where: str) -> tuple[Tensor, int]:
    """`decode` without turning it, and the EXIF orientation, 1..8."""
    pixels_HWC, orientation = _decode(data, where, with_orientation=True)
    return torch.from_numpy(pixels_HWC).permute(2, 0, 1), orientation


def _decode(data: bytes, where: str, *, with_orientation: bool) -> tuple[Pixels, int]:
    """uint8 (H, W, 3), and the orientation; 1 where that is not asked for."""
    if not data:
        raise SampleError(where, "the file is empty (0 bytes)")
    if len(data) > MAX_BYTES:
        raise PictureTooLarge(where, f"{len(data):,} bytes are more than the {MAX_BYTES:,} allowed")
    try:
        pixels_HWC = _decode_jpeg(data, where) if data.startswith(_JPEG_START) else None
        if pixels_HWC is None:
            return _decode_pillow(data, where, with_orientation=with_orientation)
        return pixels_HWC, jpeg_orientation(data) if with_orientation else UPRIGHT
    except MemoryError as error:
        raise SampleError(
            where, "takes more memory than is available", "scale it down or remove it"
        ) from error


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """Read and decode one image file.

    Returns:
        uint8 (3, H, W), RGB; see `decode`.

    Raises:
        SampleError: the file cannot be read or decoded; the message names it.
    """
    return decode(read_bytes(path), os.fspath(path))


def read_bytes(path: str | os.PathLike[str], *, waiting: bool = False) -> bytes:
    """Read a file.

    Args:
        path: of the file.
        waiting: whether to wait for the writer of a named pipe; for callers that have a time limit.

    Raises:
        SampleError: the file cannot be read; the message names it.
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


def _decode_jpeg(data: bytes, where: str) -> Pixels | None:
    """The fast path: uint8 (H, W, 3), or None where Pillow has to decode (CMYK, YCCK, damaged files)."""
    try:
        height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
        if height * width > MAX_PIXELS:
            raise _too_large(where, f"{width}x{height} pixels")
        if colorspace not in _SIMPLEJPEG_COLORSPACES:
            return None
        pixels_HWC: Pixels = simplejpeg.decode_jpeg(data, "RGB")
    except ValueError:  # also raised for damage that libjpeg can repair, which Pillow accepts
        return None
    return pixels_HWC


def _decode_pillow(data: bytes, where: str, *, with_orientation: bool) -> tuple[Pixels, int]:
    """Decode by Pillow; see `_decode`.

    Raises:
        SampleError: Pillow cannot decode it, or it is too large.
    """
    try:
        with _warnings_ignored(), Image.open(io.BytesIO(data), formats=tuple(FORMATS)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_large(where, f"{image.width}x{image.height} pixels")
            pixels_HWC = _to_rgb(image)
            return pixels_HWC, orientation_of(image) if with_orientation else UPRIGHT
    except DAMAGED_FILE_ERRORS as error:
        raise _undecodable(error, where) from error


def stored_pixels(data: bytes, where: str = "an image in memory") -> int:
    """How many pixels an image has, as its header says; nothing is decoded.

    Raises:
        PictureTooLarge: about twice `MAX_PIXELS` or more, as Pillow counts.
        SampleError: the header cannot be read.
    """
    try:
        with _warnings_ignored(), Image.open(io.BytesIO(data), formats=tuple(FORMATS)) as image:
            return image.width * image.height
    except DAMAGED_FILE_ERRORS as error:
        raise _undecodable(error, where) from error


def _undecodable(error: Exception, where: str) -> SampleError:
    """What Pillow's error means to a user."""
    if isinstance(error, Image.DecompressionBombError):
        return _too_large(where, str(error))
    if isinstance(error, UnidentifiedImageError):
        reason = f"not one of {', '.join(FORMATS)}"
    else:
        reason = str(error) or type(error).__name__
    return SampleError(where, f"cannot be decoded as an image ({reason})")


@contextmanager
def _warnings_ignored() -> Iterator[None]:
    """Silence Pillow's warnings: about damaged tags, which affect no pixel, and about sizes that we allow."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _to_rgb(image: Image.Image) -> Pixels:
    """A Pillow image of any mode as uint8 (H, W, 3)."""
    if image.mode.startswith("I"):  # 16-bit grey, of mode "I;16", "I;16B" or "I"
        grey_HW = (np.asarray(image).astype(np.int64) >> _unused_bits(image)).clip(0, 255).astype(np.uint8)
        return np.repeat(grey_HW[:, :, None], 3, axis=2)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # the same colours; converting to RGB directly, Pillow warns
    return np.array(image.convert("RGB"))  # a copy, since torch needs writable memory


def _unused_bits(image: Image.Image) -> int:
    """By how many bits 16-bit grey is shifted to have eight: 8, or fewer where a TIFF says it has fewer."""
    most = getattr(image, "tag_v2", {}).get(_MAX_SAMPLE_VALUE, 0xFFFF)
    most = most[0] if isinstance(most, tuple) else most
    return min(8, max(0, int(most).bit_length() - 8)) if isinstance(most, int) and most > 0 else 8


def _too_large(where: str, size: str) -> PictureTooLarge:
    return PictureTooLarge(
        where,
        f"{size} is more than the {MAX_PIXELS} allowed (a decompression bomb?)",
        "scale it down or remove it",
    )
