"""From the stored fields of a labelled image to a sample for training or evaluation."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from hornet_train.data.address import SampleDraws
from hornet_train.data.order import Address
from hornet_train.data.sources.source import Fields
from hornet_train.data.worker import decoded_image
from hornet_train.images.orientation import Exif
from hornet_train.tasks.asked import view_name
from hornet_train.tasks.classification.sources.labelled import IMAGE, LABEL
from hornet_train.tasks.classification.transforms import EvalTransform, TrainTransform

Label = int | Tensor
Decoded = tuple[Tensor, Label]  # uint8 (3, H, W) RGB, and the label as it is stored
Sample = dict[str, Tensor | int]


@dataclass(frozen=True)
class _LabelledSamples:
    """Stored labelled images decoded; see `Samples`.

    `exif`: whether images are turned as their EXIF orientation says.
    """

    ragged: ClassVar[Collection[str]] = frozenset()
    exif: Exif = field(default="ignore", kw_only=True)

    def decode(self, fields: Fields) -> Decoded:
        """See `Samples`."""
        return decoded_image(fields[IMAGE], self.exif), fields[LABEL]

    def nbytes(self, decoded: Decoded) -> int:
        """See `Samples`."""
        return decoded[0].nbytes


@dataclass(frozen=True)
class TrainSamples(_LabelledSamples):
    """Augmented by draws from (seed, epoch, index, repeat).

    A sample: `image` uint8 (3, height, width), `label` int, `erase` int64 (4,): top, left, height, width of
    the box that random erasing fills on the device; zeros for none.
    """

    transform: TrainTransform
    seed: int
    _draws: SampleDraws = field(default_factory=SampleDraws, init=False, repr=False, compare=False)

    def make(self, address: Address, decoded: Decoded) -> Sample:
        """See `Samples`."""
        image, label = decoded
        rng = self._draws.at(self.seed, address.epoch, address.index, address.repeat)
        pixels, erase = self.transform(image, rng, address.epoch)
        return {"image": pixels, "label": label, "erase": erase}


@dataclass(frozen=True)
class PictureSamples:
    """Pictures without labels; see `Samples`. A sample: `image`, as for an evaluation, and more views.

    Attributes:
        transforms: of each scale.
        exif: see `_LabelledSamples`.
        corners: whether those are views, too, beside the middle.
    """

    transforms: tuple[EvalTransform, ...]
    exif: Exif = "ignore"
    corners: bool = False
    ragged: ClassVar[Collection[str]] = frozenset()

    def decode(self, fields: Fields) -> Tensor:
        """See `Samples`."""
        return decoded_image(fields[IMAGE], self.exif)

    def nbytes(self, decoded: Tensor) -> int:
        """See `Samples`."""
        return decoded.nbytes

    def make(self, address: Address, decoded: Tensor) -> dict[str, Tensor]:  # noqa: ARG002 - nothing is drawn
        """See `Samples`."""
        views: list[Tensor] = []
        for transform in self.transforms:
            views += transform.five(decoded) if self.corners else [transform(decoded)]
        return {view_name(number): view for number, view in enumerate(views)}


@dataclass(frozen=True)
class EvalSamples(_LabelledSamples):
    """A sample: `image` uint8 (3, height, width), `label` int. The same in every epoch."""

    transform: EvalTransform

    def make(self, address: Address, decoded: Decoded) -> Sample:  # noqa: ARG002 - nothing is drawn
        """See `Samples`."""
        image, label = decoded
        return {"image": self.transform(image), "label": label}
