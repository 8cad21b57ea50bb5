"""From the stored values of masks to classes: grey, palette and colour-coded masks.

Layout suffixes: `x_HW` is height, width; `x_HWC` has the channels last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hornet_train.errors import SampleError
from hornet_train.images.layout import RGB, Pixels
from hornet_train.tasks.segmentation.mask_files import read_mask
from hornet_train.tasks.segmentation.metrics import IGNORED

MOST_CLASSES = 254  # the two other values of a byte are ignored pixels and those that mean nothing
MEANINGLESS = 254
_NAMED = 5  # values or colours in a message


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
            meant = stored.contiguous().numpy().tobytes().translate(self._table)
            return torch.frombuffer(bytearray(meant), dtype=torch.uint8).view(stored.shape)
        return torch.from_numpy(self._of_colours[_code(stored.numpy())])

    @cached_property
    def _table(self) -> bytes:
        return bytes(self.values)

    @cached_property
    def _of_colours(self) -> np.ndarray:
        """What each of all colours means, 16 MB."""
        assert self.colours is not None
        table = np.full(1 << 24, MEANINGLESS, dtype=np.uint8)
        table[_code(np.array(list(self.colours), dtype=np.uint8))] = list(self.colours.values())
        return table

    def __getstate__(self) -> dict[str, Any]:
        """Without what is computed at need, for other processes."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

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
            f"data.values={stored}: one number of 0..255 for each of the {classes} classes, all different"
        )
    for label, value in enumerate(stored):
        table[value] = label
    for value in (*ignore, *([0] if reduce_zero_label else [])):
        if value in stored:
            if values is not None:
                continue  # a value that is said to be a class is one: 255 of black and white masks
            others = [one for one in stored if one not in ignore]
            remedy = "data.reduce_zero_label=true" if value == 0 else f"data.values={others}"
            raise ValueError(
                f"data.ignore={value} is the value of a class, number {stored.index(value)}: {remedy} leaves "
                "it out of the classes"
            )
        table[value] = IGNORED
    return MaskCoding(classes, tuple(table), colours, reduced=reduce_zero_label)


def _code(colours: np.ndarray) -> np.ndarray:
    """(..., 3) bytes as one number each."""
    red, green, blue = (colours[..., channel].astype(np.uint32) for channel in range(3))
    code: np.ndarray = red << 16 | green << 8 | blue
    return code
