"""EXIF orientation: how the pixels of a photo are to be turned so that it stands upright.

Cameras and phones store what the sensor saw, and a number from 1 to 8 that says how it was held.
"""

from __future__ import annotations

import io
import warnings
from typing import Literal

from PIL import ExifTags, Image
from torch import Tensor

from hornet_train.images.damaged import DAMAGED_FILE_ERRORS

Exif = Literal["ignore", "apply"]
"""Whether pictures are turned as their EXIF orientation says."""

UPRIGHT = 1
_APP1, _START_OF_SCAN = 0xE1, 0xDA  # markers of JPEG


def orientation_of(image: Image.Image) -> int:
    """The orientation of an image of Pillow, 1..8; 1 where it has none, or none that can be read.

    Of some formats it is known only when the image is loaded: PNG may have it behind the pixels. A TIFF that
    is loaded has been turned by Pillow, and none is left.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged tags
            value = image.getexif().get(ExifTags.Base.Orientation, UPRIGHT)
        return int(value) if value in range(1, 9) else UPRIGHT
    except DAMAGED_FILE_ERRORS:  # damaged EXIF, which affects no pixel
        return UPRIGHT


def jpeg_orientation(data: bytes) -> int:
    """The orientation of a JPEG, of which no more than the headers are read; 1 where there is none."""
    if not _may_have_exif(data):
        return UPRIGHT
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
                return orientation_of(image)
    except DAMAGED_FILE_ERRORS:  # as above; whether the pixels can be decoded is found out elsewhere
        return UPRIGHT


def _may_have_exif(data: bytes) -> bool:
    """Whether a JPEG has an APP1 segment, where EXIF and XMP are; most images of the web have none."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF or data[at + 1] == _APP1:  # something odd between segments is left to Pillow
            return True
        if data[at + 1] == _START_OF_SCAN:
            return False
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def exif_of(orientation: int) -> bytes:
    """EXIF data that say nothing but an orientation."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif.tobytes()


def turned(pixels_HWC: Tensor, orientation: int) -> Tensor:
    """The pixels as they are seen upright: (H, W, C), or (W, H, C) for orientations from 5 on."""
    if orientation == UPRIGHT:
        return pixels_HWC
    if orientation >= 5:
        pixels_HWC = pixels_HWC.transpose(0, 1)
    return pixels_HWC.flip(_FLIPPED[orientation]).contiguous()


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """The (height, width) of a picture of such a stored size, once it stands upright."""
    return size[::-1] if orientation >= 5 else size


def as_annotated(image_CHW: Tensor, orientation: int, size: tuple[int, int]) -> Tensor | None:
    """A picture as it was annotated, for (height, width) pixels; None where it cannot have been.

    Upright where it then has this size, as tools for annotation and OpenCV show it; else as it is stored.
    """
    upright_CHW = turned(image_CHW.permute(1, 2, 0), orientation).permute(2, 0, 1)
    return next((one for one in (upright_CHW, image_CHW) if tuple(one.shape[1:]) == size), None)


_FLIPPED = {2: (1,), 3: (0, 1), 4: (0,), 5: (), 6: (1,), 7: (0, 1), 8: (0,)}  # 0: rows, 1: columns
