"""A source of labelled images and a transform, as samples with addresses."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from hornet_train.data.address import SampleDraws
from hornet_train.data.order import Address
from hornet_train.data.sources import Source
from hornet_train.tasks.classification.transforms import EvalTransform, TrainTransform

Sample = dict[str, Tensor | int]


@dataclass(frozen=True)
class TrainSamples:
    """Augmented by draws from (seed, epoch, index, repeat).

    A sample: `image` uint8 (3, S, S), `label` int, `erase` int64 (4,): top, left, height, width of the box
    that random erasing fills on the device; zeros for none.
    """

    source: Source
    transform: TrainTransform
    seed: int
    _draws: SampleDraws = field(default_factory=SampleDraws, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.source)

    def read(self, image: int) -> tuple[Tensor, int | Tensor]:
        """See `Samples`."""
        return self.source.read(image)

    def make(self, address: Address, image: Tensor, target: int | Tensor) -> Sample:
        """See `Samples`."""
        rng = self._draws.at(self.seed, address.epoch, address.index, address.repeat)
        pixels, erase = self.transform(image, rng, address.epoch)
        return {"image": pixels, "label": target, "erase": erase}


@dataclass(frozen=True)
class EvalSamples:
    """A sample: `image` uint8 (3, S, S), `label` int. The same in every epoch."""

    source: Source
    transform: EvalTransform

    def __len__(self) -> int:
        return len(self.source)

    def read(self, image: int) -> tuple[Tensor, int | Tensor]:
        """See `Samples`."""
        return self.source.read(image)

    def make(self, address: Address, image: Tensor, target: int | Tensor) -> Sample:  # noqa: ARG002
        """See `Samples`; nothing is drawn."""
        return {"image": self.transform(image), "label": target}
