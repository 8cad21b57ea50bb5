"""Tars of images and labels in the webdataset convention."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hornet_train.data.sources.column_values import ColumnValues
from hornet_train.data.sources.index import ShardIndex, read_index
from hornet_train.data.sources.source import Fields, sha256_of
from hornet_train.data.sources.split_files import is_url
from hornet_train.data.sources.storage_errors import file_errors
from hornet_train.data.sources.tar_index import TarIndex, scan_tars
from hornet_train.data.sources.tar_members import READ_AT_ONCE, Member, TarSample
from hornet_train.data.sources.tar_shards import TarShards
from hornet_train.errors import DataError
from hornet_train.images.decode import MAX_BYTES
from hornet_train.images.formats import EXTENSIONS
from hornet_train.tasks.classification.sources.label_values import ValueClasses, classes_of_values
from hornet_train.tasks.classification.sources.labelled import IMAGE, LABEL, LabelledShards
from hornet_train.untrusted import parse_json

SUFFIXES = tuple(extension[1:] for extension in EXTENSIONS)
_LABELS = (
    "labels in tars are whole numbers, such as those from 0 on: write such, or parquet, where they may be "
    "text, or pack class folders (hornet-data pack)"
)


class ImageAndLabel:
    """A sample is an image (`<key>.jpg`, ...) and a label (`<key>.cls`, or `<key>.json` with `label`)."""

    name = "image and label"
    files = (IMAGE,)
    numbers = (LABEL,)

    def begin(self, key: str, path: str) -> _ImageAndLabel:
        """See `SampleRule`."""
        return _ImageAndLabel(key, path)


class _ImageAndLabel:
    def __init__(self, key: str, path: str) -> None:
        self._key = key
        self._path = path
        self._image: Member | None = None
        self._label: int | None = None

    def add(self, member: Member, content: Callable[[], bytes]) -> None:
        """See `Collector`."""
        path = self._path
        if member.suffix.rpartition(".")[2] in SUFFIXES:
            if self._image is not None:
                raise DataError(
                    f"{path}: sample {self._key} has two images, {self._image.name} and {member.name}; "
                    "remove one"
                )
            if member.size > MAX_BYTES:
                raise DataError(f"{path}: {member.name}: {member.size:,} bytes are no image; remove it")
            self._image = member
        elif member.suffix == "cls" or (member.suffix == "json" and self._label is None):
            if member.size > READ_AT_ONCE:
                raise DataError(f"{path}: {member.name}: {member.size:,} bytes are no label; remove it")
            found = _parsed(content(), member.suffix, f"{path}: {member.name}")
            self._label = self._label if found is None else found

    def done(self) -> TarSample:
        """See `Collector`."""
        if self._image is None:
            raise DataError(
                f"{self._path}: sample {self._key} has no image ({', '.join(SUFFIXES)}); remove it or pack "
                "again"
            )
        if self._label is None:
            raise DataError(
                f"{self._path}: sample {self._key} has no label (.cls, or .json with a label); remove it or "
                "pack again"
            )
        return TarSample((self._image,), (self._label,))


def _parsed(text: bytes, suffix: str, where: str) -> int | None:
    """The number in a .cls member, or the `label` of a .json member; None where that has none."""
    try:
        value = int(text) if suffix == "cls" else parse_json(text, READ_AT_ONCE)["label"]
    except (KeyError, TypeError):
        return None
    except ValueError as error:
        raise DataError(f"{where}: holds {text[:40]!r}, not a label; {_LABELS}") from error
    if type(value) is not int or not -(2**31) <= value < 2**31:
        raise DataError(f"{where}: the label {value!r} is not a number of a class; {_LABELS}")
    return value


def scan_labelled(paths: Sequence[str]) -> TarIndex:
    """The samples of local tars. Raises DataError where a tar is damaged or a sample in it incomplete."""
    return scan_tars(paths, ImageAndLabel())


def classes_in(
    scanned: TarIndex, where: str, *, index: ShardIndex | None, given: Sequence[str] | None
) -> ValueClasses:
    """The classes of scanned tars.

    Args:
        scanned: by `scan_labelled`.
        where: the data set, for messages.
        index: what the `<split>.index.json` beside them says, which may have names.
        given: the classes of the training split or a checkpoint.

    Raises:
        DataError: as `classes_of_values`.
    """
    labels = scanned.numbers[LABEL]
    return classes_of_values(
        ColumnValues(tuple(np.unique(labels).tolist()), 0, len(labels)),
        where,
        column=LABEL,
        names=None if index is None else index.names,
        given=given,
    )


class LabelledTars(LabelledShards):
    """Tars of images with labels.

    Tars on this machine are scanned once, and the positions of their images kept in the cache folder; of
    tars elsewhere the `<split>.index.json` beside them has to say the numbers of samples.
    """

    def __init__(self, paths: Sequence[str], split: str, *, classes: Sequence[str] | None = None) -> None:
        """Count samples.

        Args:
            paths: local paths or URLs of the tars, in order.
            split: for messages and the name of the index.json.
            classes: of the training split, for tars without an index.json.

        Raises:
            DataError: a tar cannot be read, holds no such samples or is unlike the index, or is elsewhere
                and not in one.
        """
        self.split, self.paths = split, tuple(paths)
        self._labels: Mapping[int, int]
        index = read_index(paths, split, "classes")
        where = f"split {split} ({os.path.basename(paths[0])}, ...)"
        facts: Any = ()
        if is_url(paths[0]):
            self._tars, self.classes = _far_tars(paths, split, index)
            self._labels = {label: label for label in range(len(self.classes))}
        else:
            self._tars = TarShards(paths, ImageAndLabel())
            scanned = self._tars.index
            assert scanned is not None
            if index is not None:
                index.check(self._tars.paths, self._tars.lengths)
            read = classes_in(scanned, where, index=index, given=classes)
            self.classes, self.absent, self.notes = read.classes, read.absent, read.notes
            self._labels = read.labels
            facts = (scanned.files[IMAGE].sizes.tobytes(), scanned.numbers[LABEL].tobytes())
        self.lengths = self._tars.lengths
        files = [os.path.basename(path) for path in self._tars.paths]
        self.fingerprint = sha256_of(repr((files, self.lengths, self.classes)).encode(), *facts)

    def read(self, shard: int, start: int) -> Iterator[Fields]:
        """See `LabelledShards`."""
        for fields in self._tars.read(shard, start):
            label = self._labels.get(fields[LABEL])
            if label is None:
                with file_errors(self._tars.paths[shard], of_one_rank=True):
                    raise DataError(
                        f"{fields[IMAGE].where}: label {fields[LABEL]} is not one of the "
                        f"{len(self.classes)} classes, from 0 on"
                    )
            yield {**fields, LABEL: label}


def _far_tars(
    paths: Sequence[str], split: str, index: ShardIndex | None
) -> tuple[TarShards, tuple[str, ...]]:
    """Tars that are not on this machine, as their index describes them, and the classes."""
    if index is None:
        raise DataError(
            f"{paths[0]}: tars that are not on this machine need {split}.index.json beside "
            "them, which lists their samples (hornet-data pack writes it): fetch them, or use parquet"
        )
    if absent := [path for path in paths if path not in index.samples]:
        raise DataError(f"{absent[0]}: no {split}.index.json beside it lists its samples; pack it again")
    lengths = [index.samples[path] for path in paths]
    return TarShards(paths, ImageAndLabel(), lengths), index.names
