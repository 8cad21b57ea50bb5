"""The shards of a data set of labelled images, found on this machine, at a URL or on the hub."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from hornet_train.data.sources.columns import flat_features, is_integer
from hornet_train.data.sources.hub import files_on_hub
from hornet_train.data.sources.index import read_index
from hornet_train.data.sources.source import Fields, sha256_of
from hornet_train.data.sources.split_files import find_files, is_local, is_url
from hornet_train.data.sources.split_names import split_notes
from hornet_train.data.sources.storage_errors import file_errors
from hornet_train.data.sources.table_shards import ArrowShards, ParquetShards, TableShards
from hornet_train.errors import DataError
from hornet_train.tasks.classification.sources.label_columns import find_columns
from hornet_train.tasks.classification.sources.label_values import ValueClasses, classes_of_values
from hornet_train.tasks.classification.sources.labelled import IMAGE, LABEL, LabelledShards
from hornet_train.tasks.classification.sources.labelled_tars import LabelledTars


def open_shards(
    name: str,
    split: str,
    *,
    config_name: str | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    revision: str | None = None,
    classes: Sequence[str] | None = None,
) -> LabelledShards:
    """The shards of one split; arguments as those of `HubSource`.

    Of shards that are far away, footers are read, and of tars the `<split>.index.json` beside them.

    Raises:
        DataError: they cannot be had, or are not of labelled images.
    """
    shards = _open(name, split, config_name, image_column, label_column, revision, classes)
    shards.notes = (*split_notes(split, shards.split), *shards.notes)
    return shards


def _open(
    name: str,
    split: str,
    config_name: str | None,
    image_column: str | None,
    label_column: str | None,
    revision: str | None,
    classes: Sequence[str] | None,
) -> LabelledTars | LabelledTables:
    features = None
    if is_local(name, config_name, revision):
        files = find_files(name, split)
    else:
        files, features = files_on_hub(name, split, config_name, revision)
    if files.format == "webdataset":
        if image_column or label_column:
            raise DataError(
                "data.image_column and data.label_column name columns of tables; in tars, suffixes say "
                "the images, and labels are .cls or .json members: leave them out"
            )
        return LabelledTars(files.paths, files.split, classes=classes)
    if files.format == "arrow" and is_url(files.paths[0]):
        raise DataError(
            f"data.name={name}: its files are .arrow, which are streamed from this machine only: fetch them, "
            "or data.streaming=false"
        )
    return LabelledTables(
        ParquetShards if files.format == "parquet" else ArrowShards,
        files.paths,
        files.split,
        image_column=image_column,
        label_column=label_column,
        classes=classes,
        features=features,
    )


class LabelledTables(LabelledShards):
    """Parquet or arrow files with a column of images and one of labels.

    Attributes:
        label_column: where the labels are.
        fingerprint: of the shards' names, sizes and lengths, and the class names.
    """

    def __init__(
        self,
        kind: type[TableShards],
        paths: Sequence[str],
        split: str,
        *,
        image_column: str | None = None,
        label_column: str | None = None,
        classes: Sequence[str] | None = None,
        features: Any = None,
    ) -> None:
        """Count rows, find columns.

        Args:
            kind: of the files.
            paths: of the shards, in order.
            split: for messages and the name of the index.json.
            image_column: where the types do not show which it is.
            label_column: likewise.
            classes: of the training split, for labels that are stored as plain values without names.
            features: `datasets.Features`, where known better than from the first shard.

        Raises:
            DataError: a shard cannot be read or is unlike the first or the index.json, or columns or labels
                are not as needed.
        """
        index = read_index(paths, split, "classes")
        self._tables = kind(paths)
        self.lengths = self._tables.lengths
        if index is not None:
            index.check(self._tables.paths, self.lengths)
        where = f"split {split} ({os.path.basename(paths[0])}, ...)"
        features = features or self._tables.features
        columns = find_columns(
            features,
            where,
            image=image_column,
            label=label_column,
            values=self._tables.occurring,
            classes=classes,
        )
        self._tables.choose(files={IMAGE: columns.image}, numbers={LABEL: columns.label})
        self.split, self.paths = split, self._tables.paths
        self.label_column = columns.label
        names = columns.names
        if names is None and index is not None and is_integer(flat_features(features)[columns.label]):
            names = index.names
        if names is not None:  # then nothing is read
            read = ValueClasses(tuple(names), {label: label for label in range(len(names))})
        else:
            found = self._tables.occurring(columns.label)
            read = classes_of_values(found, where, column=columns.label, names=None, given=classes)
        self.classes, self.absent, self.notes = read.classes, read.absent, read.notes
        self._labels = read.labels
        files = [os.path.basename(path) for path in self._tables.paths]
        described = (files, self._tables.sizes, self.lengths, self.classes, columns)
        self.fingerprint = sha256_of(repr(described).encode())

    def read(self, shard: int, start: int) -> Iterator[Fields]:
        """See `LabelledShards`."""
        for row, fields in enumerate(self._tables.read(shard, start), start):
            label = self._labels.get(fields[LABEL])
            if label is None:
                with file_errors(self._tables.paths[shard], of_one_rank=True):
                    raise DataError(
                        f"{self._tables.describe(shard, row)}: label {fields[LABEL]} is not one of the "
                        f"{len(self.classes)} classes, from 0 on"
                    )
            yield {**fields, LABEL: label}
