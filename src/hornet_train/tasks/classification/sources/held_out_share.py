"""A share of the images of each class held out, where nobody has split them."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np

from hornet_train.data.sources.source import Fields, sha256_of
from hornet_train.errors import DataError
from hornet_train.tasks.classification.sources.labelled import LABEL, ListedImages

Indices = np.ndarray[Any, np.dtype[np.int64]]


def hold_out(source: ListedImages, share: float) -> tuple[SomeImages, SomeImages]:
    """The images to train on, and those that are held out: the same ones wherever and whenever it is asked.

    Of each class the nearest whole number to its share, at least one image and never all. Which ones follows
    from hashes of their paths within the data set, and from nothing else.

    Args:
        source: all images.
        share: of the images of each class, between 0 and 1.

    Raises:
        DataError: every class has a single image.
    """
    labels = source.labels
    digests = np.array([_digest(source.key(index)) for index in range(len(source))], dtype=np.uint64)
    order = np.lexsort((digests, labels))  # class by class, there by their hashes
    sizes = np.bincount(labels, minlength=len(source.classes))
    counts = np.floor(sizes * share + 0.5).astype(np.int64).clip(1, np.maximum(sizes - 1, 0))
    counts[sizes < 2] = 0
    rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    held_out = np.sort(order[rank < np.repeat(counts, sizes)])
    if not len(held_out):
        raise DataError(f"data.val_share={share} holds nothing out: each class has a single image")
    some = tuple(name for name, count in zip(source.classes, counts, strict=True) if count)
    train = np.setdiff1d(np.arange(len(source)), held_out)
    return SomeImages(source, train, source.classes), SomeImages(source, held_out, some)


def _digest(key: bytes) -> int:
    return int.from_bytes(hashlib.sha256(key).digest()[:8], "little")


class SomeImages(ListedImages):
    """Some of the images of a source."""

    def __init__(self, source: ListedImages, indices: Indices, classes: Sequence[str]) -> None:
        """Choose.

        Args:
            source: of all images.
            indices: int64 (images,), those to take; their order is that of their labels, then this one.
            classes: names in label order, in place of the source's; those of the images are among them.
        """
        self.classes, self.ignored = tuple(classes), source.ignored
        places = {name: place for place, name in enumerate(classes)}
        self._rows = np.array([places.get(name, -1) for name in source.classes], dtype=np.int64)
        self._source = source
        self._indices = indices[np.argsort(self._rows[source.labels[indices]], kind="stable")]

    def without(self, keys: Collection[bytes]) -> SomeImages:
        """The same without the samples of some keys."""
        if not keys:
            return self
        left = [k for k in range(len(self)) if self.key(k) not in keys]
        return SomeImages(self._source, self._indices[left], self.classes)

    def __len__(self) -> int:
        return len(self._indices)

    def read(self, index: int) -> Fields:
        fields = self._source.read(int(self._indices[index]))
        return {**fields, LABEL: int(self._rows[fields[LABEL]])}

    def locate(self, index: int) -> str:
        return self._source.locate(int(self._indices[index]))

    def key(self, index: int) -> bytes:
        return self._source.key(int(self._indices[index]))

    @property
    def labels(self) -> Indices:
        labels: Indices = self._rows[self._source.labels[self._indices]]
        return labels

    def in_order(self, classes: Sequence[str]) -> Self:
        if set(self.classes) - set(classes):
            raise ValueError("an order of other classes")
        return type(self)(self._source, self._indices, classes)

    @cached_property
    def fingerprint(self) -> str:
        keys = b"\0".join(self.key(index) for index in range(len(self)))
        return sha256_of(keys, self.labels, repr(self.classes).encode())
