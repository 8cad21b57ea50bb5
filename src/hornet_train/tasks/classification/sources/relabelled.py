"""Labelled images whose labels are places in another list of classes than that of their storage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hornet_train.data.sources.source import Fields, sha256_of
from hornet_train.tasks.classification.sources.labelled import (
    LABEL,
    LabelledImages,
    LabelledShards,
    classes_without,
)


class RelabelledImages:
    """A source with random access whose label k becomes `rows[k]`.

    Attributes:
        classes: class names in the order of the new labels.
        absent: those that are known to have no image.
    """

    def __init__(self, source: LabelledImages, rows: Sequence[int], classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.absent = _absent(source, rows, self.classes)
        self._source, self._rows = source, tuple(rows)

    def __len__(self) -> int:
        return len(self._source)

    def read(self, index: int) -> Fields:
        fields = self._source.read(index)
        return {**fields, LABEL: self._rows[fields[LABEL]]}

    def locate(self, index: int) -> str:
        return self._source.locate(index)

    @property
    def fingerprint(self) -> str:
        return _fingerprint(self._source.fingerprint, self._rows, self.classes)


class RelabelledShards(LabelledShards):
    """The same for shards."""

    def __init__(self, shards: LabelledShards, rows: Sequence[int], classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.absent = _absent(shards, rows, self.classes)
        self.split, self.paths = shards.split, shards.paths
        self.label_column, self.notes = shards.label_column, shards.notes
        self.lengths = shards.lengths
        self.fingerprint = _fingerprint(shards.fingerprint, rows, self.classes)
        self._shards, self._rows = shards, tuple(rows)

    def read(self, shard: int, start: int) -> Iterator[Fields]:
        """See `Shards`."""
        for fields in self._shards.read(shard, start):
            yield {**fields, LABEL: self._rows[fields[LABEL]]}


def relabelled(
    source: LabelledImages | LabelledShards, rows: Sequence[int], classes: Sequence[str]
) -> LabelledImages | LabelledShards:
    """The same images, label k of which is `rows[k]`, a place in `classes`."""
    if isinstance(source, LabelledShards):
        return RelabelledShards(source, rows, classes)
    return RelabelledImages(source, rows, classes)


def _absent(
    source: LabelledImages | LabelledShards, rows: Sequence[int], classes: Sequence[str]
) -> tuple[str, ...]:
    without = set(source.absent)
    return classes_without((rows[k] for k, name in enumerate(source.classes) if name not in without), classes)


def _fingerprint(of_source: str, rows: Sequence[int], classes: Sequence[str]) -> str:
    return sha256_of(of_source.encode(), repr((tuple(rows), tuple(classes))).encode())
