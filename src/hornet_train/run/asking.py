"""A model that answers for pictures in memory: what the library and the service have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from hornet_train.data.batch import to_device
from hornet_train.data.collate import Collate
from hornet_train.data.order import Address
from hornet_train.data.sources.source import Fields
from hornet_train.data.worker import Item, make_samples
from hornet_train.engine.precision import PrecisionName, autocast
from hornet_train.errors import SampleError
from hornet_train.tasks.predictor_types import Answer, Answers, Predictor


@dataclass(frozen=True)
class Asking:
    """A model on its device, and how pictures go through it.

    Attributes:
        predictor: its model is on `device`, in evaluation mode.
    """

    predictor: Predictor
    device: torch.device
    precision: PrecisionName

    def items(self, numbers: Sequence[int], read: Callable[[int], Fields]) -> list[Item]:
        """Pictures, decoded and as the model takes them; the error in the place of one that cannot be read.

        `read`: gives the fields of a picture by its number.
        """
        return make_samples(self.predictor.samples, [Address(0, number) for number in numbers], read)

    def answers(self, items: Sequence[Item], answers: Answers | None = None) -> list[Answer]:
        """What the model says of pictures, all in one batch.

        `answers`: instead of the predictor's own.

        Raises:
            SampleError: one could not be read.
        """
        collated = Collate(self.predictor.samples.ragged, on_bad="error")(items)
        if isinstance(collated, SampleError):
            raise collated
        batch = to_device(collated.batch(), self.device)
        with torch.inference_mode(), autocast(self.precision, self.device):
            return (answers or self.predictor.answers)(self.predictor.model, batch)
