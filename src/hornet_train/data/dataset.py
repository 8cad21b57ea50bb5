"""A source of labelled images and a transform, as samples with addresses."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from hornet_train.data.address import sample_rng
from hornet_train.data.sources import Source
from hornet_train.data.transforms import EvalTransform, TrainTransform


@dataclass(frozen=True)
class TrainSamples:
    """Augmented by draws from (seed, epoch, index).

    A sample: `image` uint8 (3, S, S), `label` int, `erase` int64 (4,): top, left, height, width of the box
    that random erasing fills on the device; zeros for none.
    """

    source: Source
    transform: TrainTransform
    seed: int

    def __len__(self) -> int:
        return len(self.source)

    def sample(self, epoch: int, index: int) -> dict[str, Tensor | int]:
        image, label = self.source.read(index)
        image, erase = self.transform(image, sample_rng(self.seed, epoch, index))
        return {"image": image, "label": label, "erase": erase}


@dataclass(frozen=True)
class EvalSamples:
    """A sample: `image` uint8 (3, S, S), `label` int. The same in every epoch."""

    source: Source
    transform: EvalTransform

    def __len__(self) -> int:
        return len(self.source)

    def sample(self, epoch: int, index: int) -> dict[str, Tensor | int]:  # noqa: ARG002 - an address has both
        image, label = self.source.read(index)
        return {"image": self.transform(image), "label": label}
