"""From the stored fields of a picture with its mask to a sample for training or evaluation."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from hornet_train.data.address import SampleDraws
from hornet_train.data.order import Address
from hornet_train.data.sources.source import Encoded, Fields
from hornet_train.data.worker import decoded_image
from hornet_train.errors import SampleError
from hornet_train.images.decode import decode_with_orientation
from hornet_train.images.orientation import as_annotated
from hornet_train.tasks.segmentation.mask_coding import MaskCoding
from hornet_train.tasks.segmentation.metrics import IGNORED
from hornet_train.tasks.segmentation.transforms import EvalTransform, TrainTransform

IMAGE, MASK, CODING = "image", "mask", "coding"  # the last: what the values of a mask mean


class Decoded(NamedTuple):
    """A picture, uint8 (3, H, W) RGB, its mask, uint8 (H, W), and what it is called."""

    image: Tensor
    mask: Tensor
    where: str


def sizes_disagree(
    mask_where: str, mask: tuple[int, int], picture_where: str, picture: tuple[int, int]
) -> SampleError:
    """The error of a mask of another (height, width) than its picture."""
    return SampleError(
        mask_where,
        f"the mask has {mask[0]}x{mask[1]} pixels (height x width), its picture {picture_where} "
        f"{picture[0]}x{picture[1]}",
        "make them the same size, masks with nearest-neighbour interpolation",
    )


def decode_pair(fields: Fields) -> Decoded:
    """The pixels of a picture and its mask.

    The picture stands upright, as its EXIF orientation says, where it then has the size of its mask.

    Raises:
        SampleError: either is damaged, their sizes differ, or the mask has values that mean nothing.
    """
    stored, mask = fields[IMAGE], fields[MASK]
    coding: MaskCoding = fields[CODING]
    mask_HW = coding.decode(mask.data, mask.where) if isinstance(mask, Encoded) else coding.classes_of(mask)
    if not isinstance(stored, Encoded):
        return Decoded(stored, mask_HW, "a picture in memory")
    image_CHW, orientation = decode_with_orientation(stored.data, stored.where)
    size = (int(mask_HW.shape[0]), int(mask_HW.shape[1]))
    fitting_CHW = as_annotated(image_CHW, orientation, size)
    if fitting_CHW is None:
        raise sizes_disagree(
            mask.where if isinstance(mask, Encoded) else stored.where,
            size,
            stored.where,
            (int(image_CHW.shape[1]), int(image_CHW.shape[2])),
        )
    return Decoded(fitting_CHW, mask_HW, stored.where)


class _PairedSamples:
    """Stored pictures with masks, decoded; see `Samples`."""

    def decode(self, fields: Fields) -> Decoded:
        """See `Samples`."""
        return decode_pair(fields)

    def nbytes(self, decoded: Decoded) -> int:
        """See `Samples`."""
        return decoded.image.nbytes + decoded.mask.nbytes


@dataclass(frozen=True)
class TrainSamples(_PairedSamples):
    """Augmented by draws from (seed, epoch, index).

    A sample: `image` uint8 (3, h, w), `mask` uint8 (h, w), `area` int, the pixels of either.
    """

    transform: TrainTransform
    seed: int
    ragged: ClassVar[Collection[str]] = frozenset({IMAGE, MASK})
    _draws: SampleDraws = field(default_factory=SampleDraws, init=False, repr=False, compare=False)

    def make(self, address: Address, decoded: Decoded) -> dict[str, Any]:
        """See `Samples`."""
        rng = self._draws.at(self.seed, address.epoch, address.index, address.repeat)
        image, mask = self.transform(decoded.image, decoded.mask, rng)
        return {IMAGE: image, MASK: mask, "area": mask.numel()}


@dataclass(frozen=True)
class _Scaled:
    """Pictures at the scales of an evaluation."""

    transform: EvalTransform

    @property
    def ragged(self) -> Collection[str]:
        """See `Samples`."""
        return frozenset({MASK, *(f"{IMAGE}{number}" for number in range(len(self.transform.ratios)))})

    def scales(self, image: Tensor) -> dict[str, Tensor]:
        """`image0`, `image1`, ... uint8 (3, h, w)."""
        return {f"{IMAGE}{number}": one for number, one in enumerate(self.transform(image))}

    def check(self, image: Tensor, where: str) -> None:
        """Raises SampleError where a picture is too small for the model at some scale."""
        height, width = image.shape[1:]
        if fault := self.transform.too_small((int(height), int(width))):
            raise SampleError(where, fault, "enlarge it, or give a larger data.scale")


@dataclass(frozen=True)
class EvalSamples(_Scaled, _PairedSamples):
    """A sample: `image0`, `image1`, ... uint8 (3, h, w), one a scale, and `mask` uint8 (H, W) as stored."""

    def decode(self, fields: Fields) -> Decoded:
        """See `Samples`."""
        found = super().decode(fields)
        self.check(found.image, found.where)
        return found

    def make(self, address: Address, decoded: Decoded) -> dict[str, Any]:  # noqa: ARG002 - nothing is drawn
        """See `Samples`."""
        return {**self.scales(decoded.image), MASK: decoded.mask}


@dataclass(frozen=True)
class PictureSamples(_Scaled):
    """Pictures without masks; see `Samples`. A sample: `image0`, ..., and `mask`, ignored everywhere."""

    def decode(self, fields: Fields) -> Tensor:
        """See `Samples`."""
        image, stored = decoded_image(fields[IMAGE], "apply"), fields[IMAGE]
        self.check(image, stored.where if isinstance(stored, Encoded) else "the picture")
        return image

    def nbytes(self, decoded: Tensor) -> int:
        """See `Samples`."""
        return decoded.nbytes

    def make(self, address: Address, decoded: Tensor) -> dict[str, Any]:  # noqa: ARG002 - nothing is drawn
        """See `Samples`."""
        nothing = torch.full(decoded.shape[1:], IGNORED, dtype=torch.uint8)
        return {**self.scales(decoded), MASK: nothing}
