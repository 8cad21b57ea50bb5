"""What sources of labelled images have in common, whatever they are stored as.

Their samples have two fields: `image`, the content of a file (`Encoded`) or uint8 (3, H, W) RGB that is
decoded already, and `label`. A label is an int; in sets for evaluation only it may be int64 (K,), any of
which is right, padded with -1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, Self

import numpy as np

from hornet_train.data.sources.source import Fields, Shards, Source

IMAGE, LABEL = "image", "label"
Split = Literal["train", "val"]


class LabelledImages(Source, Protocol):
    """Labelled images with random access."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""

    @property
    def absent(self) -> tuple[str, ...]:
        """The classes that are known to have no image."""


def classes_without(labels: Iterable[int], classes: Sequence[str]) -> tuple[str, ...]:
    """The classes that none of the labels is of."""
    present = set(labels)
    return tuple(name for label, name in enumerate(classes) if label not in present)


class ListedImages(ABC):
    """Labelled images with random access that were listed: their labels are known without reading them.

    Attributes:
        classes: class names in label order.
        ignored: extension -> files that lie among them and are no images by name, and were not taken.
    """

    classes: tuple[str, ...]
    ignored: Mapping[str, int]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def read(self, index: int) -> Fields:
        """See `Source`."""

    @abstractmethod
    def locate(self, index: int) -> str:
        """See `Source`."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """See `Source`."""

    @property
    @abstractmethod
    def labels(self) -> np.ndarray[Any, np.dtype[np.integer[Any]]]:
        """Of each sample, (len,)."""

    @abstractmethod
    def key(self, index: int) -> bytes:
        """What sample `index` is called wherever the data set lies: its path within it."""

    @abstractmethod
    def in_order(self, classes: Sequence[str]) -> Self:
        """The same images, each label the place of its class in `classes`, which may be more.

        Raises:
            ValueError: one of the classes is not among these.
        """

    @property
    def absent(self) -> tuple[str, ...]:
        """The classes without an image."""
        return classes_without(np.unique(self.labels).tolist(), self.classes)


class LabelledShards(Shards):
    """Labelled images in shards that are read from front to back.

    Attributes:
        classes: class names in label order.
        absent: those that are known to have no image; of labels with stored names none is read for that.
        split: its name as the data set spells it.
        paths: of the shards.
        label_column: where the labels are; None where the storage has no columns.
        notes: a sentence for each thing that a user should know of.
    """

    classes: tuple[str, ...]
    split: str
    paths: tuple[str, ...]
    label_column: str | None = None
    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
