"""From a mask file to the classes of its pixels: grey, palette and colour-coded masks.

Layout suffixes: `x_HW` is height, width; `x_HWC` has the channels last.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from hornet_train.errors import SampleError
from hornet_train.images.damaged import DAMAGED_FILE_ERRORS
from hornet_train.images.decode import MAX_PIXELS
from hornet_train.images.formats import FORMATS
from hornet_train.images.layout import RGB, Pixels
from hornet_train.tasks.segmentation.metrics import IGNORED

MOST_CLASSES = 254  # the two other values of a byte are ignored pixels and those that mean nothing
MEANINGLESS = 254
_LOSSY = ("JPEG", "MPO", "AVIF")
_NAMED = 5  # values or colours in a message


def read_mask(data: bytes, where: str, *, in_colour: bool) -> Pixels:
    """The stored values of a mask: uint8 (H, W); its colours, uint8 (H, W, 3), where these say the classes.

    Of a palette image the values are the places in the palette, of one with a single bit 0 and 1.
    Transparency is left out.

    Raises:
        SampleError: it is no image, damaged, lossy, or of more than eight bits.
    """
    if not data:
        raise SampleError(where, "the mask is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(data), formats=tuple(FORMATS)) as image:
            if image.format in _LOSSY:
                raise SampleError(
                    where,
                    f"the mask is stored as {image.format}, which changes values near borders",
                    "store masks as PNG, from the originals",
                )
            if image.width * image.height > MAX_PIXELS:
                raise SampleError(where, f"{image.width}x{image.height} pixels are too many for a mask")
            if image.mode.startswith(("I", "F")):
                raise SampleError(
                    where,
                    f"the mask has more than eight bits a pixel (mode {image.mode})",
                    "store the number of each pixel's class in eight bits",
                )
            return _values(image, where, in_colour=in_colour)
    except DAMAGED_FILE_ERRORS as error:
        if isinstance(error, UnidentifiedImageError):
            reason = f"the mask is not one of {', '.join(FORMATS)}"
        else:
            reason = f"the mask cannot be decoded ({str(error) or type(error).__name__})"
        raise SampleError(where, reason) from error


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


@dataclass(frozen=True)
class MaskCoding:
    """What the stored values of masks mean.

    Attributes:
        classes: K, 1..254.
        values: 256 numbers: the class of each stored value, `IGNORED`, or `MEANINGLESS`.
        colours: colour -> class or `IGNORED`, where masks are in colours; `values` are then not read.
        reduced: whether label 0 is ignored and the others stand one lower, for messages.
    """

    classes: int
    values: tuple[int, ...]
    colours: Mapping[RGB, int] | None = None
    reduced: bool = False

    @property
    def meaning(self) -> object:
        """What makes it this coding, as plain numbers."""
        colours = None if self.colours is None else sorted(self.colours.items())
        return self.classes, self.values, colours

    def decode(self, data: bytes, where: str) -> Tensor:
        """The classes of a mask's pixels, uint8 (H, W), `IGNORED` for those without one.

        Raises:
            SampleError: see `read_mask`; or the mask has values or colours that mean nothing.
        """
        stored = read_mask(data, where, in_colour=self.colours is not None)
        found = self.classes_of(torch.from_numpy(stored))
        if bool((found == MEANINGLESS).any()):
            raise SampleError(where, *self._fault(stored, found.numpy() == MEANINGLESS))
        return found

    def classes_of(self, stored: Tensor) -> Tensor:
        """Classes of stored values, uint8 (H, W), or colours, uint8 (H, W, 3); `MEANINGLESS` for others."""
        if self.colours is None:
            return self._table[stored.long()]
        codes, classes = self._codes
        wanted = _code(stored.numpy())
        places = np.searchsorted(codes, wanted).clip(max=len(codes) - 1)
        return torch.from_numpy(
            np.where(codes[places] == wanted, classes[places], MEANINGLESS).astype(np.uint8)
        )

    @cached_property
    def _table(self) -> Tensor:
        return torch.tensor(self.values, dtype=torch.uint8)

    @cached_property
    def _codes(self) -> tuple[np.ndarray, np.ndarray]:
        assert self.colours is not None
        codes = _code(np.array(list(self.colours), dtype=np.uint8))
        order = np.argsort(codes)
        return codes[order], np.array(list(self.colours.values()), dtype=np.uint8)[order]

    def _fault(self, stored: Pixels, wrong_HW: np.ndarray) -> tuple[str, str]:
        """What is wrong with a mask, and what to do."""
        if self.colours is not None:
            colours, counts = np.unique(stored[wrong_HW], axis=0, return_counts=True)
            most = colours[np.argsort(-counts)[:_NAMED]]
            named = ", ".join(f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in most.tolist())
            more = f" and {len(colours) - _NAMED} more" * (len(colours) > _NAMED)
            return (
                f"the mask has colours that no class has: {named}{more} ({int(counts.sum()):,} pixels)",
                "add them to data.classes, or to data.ignore if they mean no class",
            )
        values = np.unique(stored[wrong_HW]).tolist()
        named = ", ".join(map(str, values[:_NAMED])) + ", ..." * (len(values) > _NAMED)
        kept = [value for value, meaning in enumerate(self.values) if meaning < self.classes]
        what = f"{kept[0]}..{kept[-1]}" if kept == list(range(kept[0], kept[-1] + 1)) else str(kept[:9])
        reason = f"the mask has the values {named}, and the {self.classes} classes are {what}"
        return reason, self._remedy(np.unique(stored).tolist(), values)

    def _remedy(self, stored: Sequence[int], wrong: Sequence[int]) -> str:
        if not self.reduced and max(wrong) == self.classes:
            return (
                "data.reduce_zero_label=true would ignore 0 and make 1.."
                f"{self.classes} the classes; or give one class more, or data.ignore={self.classes}"
            )
        if set(stored) <= {0, 255} and self.classes <= 2:
            return "data.values=[0,255] makes these two the classes"
        return "give as many classes as there are (data.classes), or data.ignore=<value> for what is none"


def coding(
    classes: int,
    *,
    values: Sequence[int] | None = None,
    ignore: Sequence[int] = (IGNORED,),
    reduce_zero_label: bool = False,
    colours: Mapping[RGB, int] | None = None,
) -> MaskCoding:
    """How masks of a data set are coded.

    Args:
        classes: K.
        values: the stored value of each class; None: 0..K - 1.
        ignore: stored values of pixels without a label.
        reduce_zero_label: 0 means no label, and v is class v - 1.
        colours: colour -> class or `IGNORED`, of masks in colours.

    Raises:
        ValueError: too many classes, or `values` that are no K different bytes.
    """
    if not 1 <= classes <= MOST_CLASSES:
        raise ValueError(f"{classes} classes: masks have from 1 to {MOST_CLASSES}")
    table = [MEANINGLESS] * 256
    stored = list(values) if values is not None else [label + reduce_zero_label for label in range(classes)]
    if len(stored) != classes or len(set(stored)) < classes or not all(0 <= one <= 255 for one in stored):
        raise ValueError(
            f"values={stored}: one number of 0..255 for each of the {classes} classes, all different"
        )
    for label, value in enumerate(stored):
        table[value] = label
    for value in (*ignore, *([0] if reduce_zero_label else [])):
        if values is not None and value in stored:
            continue  # a value that is said to be a class is one: 255 of black and white masks
        table[value] = IGNORED
    return MaskCoding(classes, tuple(table), colours, reduced=reduce_zero_label)


def _code(colours: np.ndarray) -> np.ndarray:
    """(..., 3) bytes as one number each."""
    red, green, blue = (colours[..., channel].astype(np.uint32) for channel in range(3))
    code: np.ndarray = red << 16 | green << 8 | blue
    return code
