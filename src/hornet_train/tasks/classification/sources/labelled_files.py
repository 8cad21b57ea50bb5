"""A list of files, each with a label."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, Self

import numpy as np

from hornet_train.data.sources.files import FileList
from hornet_train.data.sources.source import Fields, sha256_of
from hornet_train.tasks.classification.sources.labelled import IMAGE, LABEL, ListedImages

Labels = np.ndarray[Any, np.dtype[np.integer[Any]]]


class LabelledFiles(ListedImages):
    """Images that are files, in the order of a list."""

    def __init__(self, files: FileList, labels: Labels, classes: Sequence[str]) -> None:
        """Join them.

        Args:
            files: the images.
            labels: integers, (len(files),), each a place in `classes`.
            classes: class names in label order.
        """
        self.classes, self.ignored = tuple(classes), dict[str, int]()
        self.files = files
        self._labels = labels

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int) -> Fields:
        return {IMAGE: self.files.read(index), LABEL: int(self._labels[index])}

    def locate(self, index: int) -> str:
        return self.files.locate(index)

    def key(self, index: int) -> bytes:
        return self.files.paths[index]

    @property
    def labels(self) -> Labels:
        return self._labels

    def in_order(self, classes: Sequence[str]) -> Self:
        if set(self.classes) - set(classes):
            raise ValueError("an order of other classes")
        places = {name: place for place, name in enumerate(classes)}
        rows = np.array([places[name] for name in self.classes], dtype=self._labels.dtype)
        other = copy(self)
        other.classes, other._labels = tuple(classes), rows[self._labels]
        return other

    @property
    def fingerprint(self) -> str:
        return sha256_of(self.files.paths.block(), self._labels, repr(self.classes).encode())
