"""The tally of an evaluation: what was found in each picture, and at the end its average precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from torch import nn

from hornet_train.data.batch import Batch, stacked
from hornet_train.engine.distributed import World
from hornet_train.tasks.detection.average_precision import Found, Precision, Truth, average_precision
from hornet_train.tasks.detection.metrics import KINDS
from hornet_train.tasks.detection.sources.pictures import Pictures


class Keeper(Protocol):
    """Is given each picture of an evaluation with what was found in it: draws and saves."""

    def __call__(self, index: int, found: Found) -> None:
        """Sample `index`."""

    def merge(self, world: World, found: Mapping[int, Found], precision: Mapping[str, Precision]) -> None:
        """Become that of all ranks, on every rank; `found` by sample and `precision` are of all pictures."""


class DetectionTally:
    """Detections of each picture, masks as codes. See `Tally`.

    Args:
        answer: (model, batch) -> what is found in each picture.
        truth: the pictures that are evaluated on.
        classes: K.
        masks: whether masks are measured, too.
        present: the classes that the data set knows.
        keeper: sees every picture; None for nobody.
    """

    def __init__(
        self,
        answer: Callable[[nn.Module, Batch], list[Found]],
        truth: Pictures,
        classes: int,
        masks: bool,
        present: Sequence[int],
        keeper: Keeper | None = None,
    ) -> None:
        self._answer, self._truth, self._classes = answer, truth, classes
        self._kinds = tuple(KINDS) if masks else ("box",)
        self._present, self._keeper = present, keeper
        self._found: dict[int, Found] = {}
        self._precision: dict[str, Precision] = {}

    @property
    def count(self) -> int:
        """See `Tally`."""
        return len(self._found)

    def update(self, model: nn.Module, batch: Batch) -> None:
        """See `Tally`."""
        numbers = stacked(batch, "index").tolist()
        for index, found in zip(numbers, self._answer(model, batch), strict=True):
            self._found[index] = found
            if self._keeper is not None:
                self._keeper(index, found)

    def merge(self, world: World) -> None:
        """See `Tally`. Pictures are in the order of the data set, whoever looked at them."""
        both = {index: found for of_rank in world.gather(self._found) for index, found in of_rank.items()}
        self._found = dict(sorted(both.items()))
        if self._found:
            truths = [truth_of(self._truth, index) for index in self._found]
            every = list(self._found.values())
            self._precision = {
                kind: average_precision(truths, every, self._classes, kind, self._present)
                for kind in self._kinds
            }
        if self._keeper is not None:
            self._keeper.merge(world, self._found, self._precision)

    def result(self) -> dict[str, float]:
        """The metrics in per cent."""
        return {
            f"{kind}_{key}": value
            for kind, found in self._precision.items()
            for key, value in found.summary.items()
        }


def truth_of(pictures: Pictures, index: int) -> Truth:
    """What is annotated in a picture."""
    height, width = pictures.sizes[index].tolist()
    return Truth(int(pictures.numbers[index]), (height, width), pictures.objects.of(index))
