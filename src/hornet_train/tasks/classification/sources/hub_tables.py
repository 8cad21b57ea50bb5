"""Labelled images of Hugging Face `datasets`, with random access: of the hub, or of files."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from hornet_train.data.sources.column_values import column_values, places
from hornet_train.data.sources.columns import column_of
from hornet_train.data.sources.hub import OpenedTable, open_files, open_hub
from hornet_train.data.sources.index import ShardIndex, read_index
from hornet_train.data.sources.source import Fields, sha256_of
from hornet_train.data.sources.split_files import find_files, is_local, is_url
from hornet_train.data.sources.split_names import split_notes
from hornet_train.data.sources.table_rows import TableRows
from hornet_train.data.sources.tar_rows import TarRows
from hornet_train.tasks.classification.sources.label_columns import find_columns
from hornet_train.tasks.classification.sources.label_values import classes_of_values
from hornet_train.tasks.classification.sources.labelled import IMAGE, LABEL
from hornet_train.tasks.classification.sources.labelled_tars import classes_in, scan_labelled

_TAR_LABELS = (None, "cls")  # what a scan of tars finds; other columns only `datasets` does


class HubSource:
    """One split of a data set: memory-mapped from the cache of `datasets`, or of tars on this machine.

    The images of near tars may be of several types, which `datasets` refuses; they are read where they lie.

    Attributes:
        classes: class names in label order.
        absent: those without an image.
        split: its name as the data set spells it.
        paths: of the files, none for a data set of the hub.
        label_column: where the labels are; None where the storage has no columns.
        notes: a sentence for each thing that a user should know of.
    """

    notes: tuple[str, ...]

    def __init__(
        self,
        path_or_name: str,
        split: str,
        *,
        config_name: str | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        revision: str | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        """Open the split; the first time, it is downloaded or converted into the cache, tars are scanned.

        Args:
            path_or_name: the id of a hub data set, or a folder, file, pattern or URL (see `find_files`).
            split: `train`, `validation` and so on.
            config_name: of a hub data set with several.
            image_column: where the types do not show which it is.
            label_column: likewise; of tars, where it is neither .cls nor the `label` of .json.
            revision: branch, tag or commit of a hub data set; None: the newest.
            classes: of the training split, for labels that are stored as plain values without names.

        Raises:
            DataError: it cannot be had, or is not of labelled images.
        """
        if is_local(path_or_name, config_name, revision):
            files = find_files(path_or_name, split)
            self.paths, self.split = files.paths, files.split
            index = read_index(files.paths, files.split, "classes")
            near_tars = files.format == "webdataset" and not is_url(files.paths[0])
            if near_tars and image_column is None and label_column in _TAR_LABELS:
                self._open_tars(path_or_name, index, classes)
            else:
                if near_tars and image_column is None and label_column == "json.label":
                    scan_labelled(files.paths)  # `datasets` does not say which sample is incomplete
                table = open_files(files, path_or_name)
                if index is not None:
                    index.check_total(files.paths, len(table.rows))
                self._open_table(table, image_column, label_column, index, classes)
        else:
            table = open_hub(path_or_name, split, config_name, revision)
            self.paths, self.split = (), table.split
            self._open_table(table, image_column, label_column, None, classes)
        self.notes = (*split_notes(split, self.split), *self.notes)

    def _open_tars(self, name: str, index: ShardIndex | None, classes: Sequence[str] | None) -> None:
        scanned = scan_labelled(self.paths)
        if index is not None:
            index.check(self.paths, scanned.lengths)
        where = f"data.name={name}, split {self.split}"
        read = classes_in(scanned, where, index=index, given=classes)
        self.classes, self.absent, self.notes = read.classes, read.absent, read.notes
        self.label_column: str | None = None
        found, which = np.unique(scanned.numbers[LABEL], return_inverse=True)
        self._labels = np.array([read.labels[value] for value in found.tolist()], dtype=np.int64)[which]
        self._rows: TableRows | TarRows = TarRows(scanned, name, self.split)

    def _open_table(
        self,
        table: OpenedTable,
        image_column: str | None,
        label_column: str | None,
        index: ShardIndex | None,
        classes: Sequence[str] | None,
    ) -> None:
        where = f"data.name={table.name}, split {table.split}"
        arrow = table.rows.data.table
        columns = find_columns(
            table.rows.features,
            where,
            image=image_column,
            label=label_column,
            values=lambda column: column_values(column_of(arrow, column)),
            classes=classes,
        )
        labels = column_of(arrow, columns.label)
        found = column_values(labels)
        names = columns.names
        if names is None and index is not None:
            names = index.names
        read = classes_of_values(found, where, column=columns.label, names=names, given=classes)
        self.classes, self.absent, self.notes = read.classes, read.absent, read.notes
        self.label_column = columns.label
        self._labels = places(labels, found.values, [read.labels[value] for value in found.values])
        self._rows = TableRows(table, files={IMAGE: columns.image}, numbers={})

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> Fields:
        return {**self._rows.read(index), LABEL: int(self._labels[index])}

    def locate(self, index: int) -> str:
        return self._rows.locate(index)

    @property
    def fingerprint(self) -> str:
        """Of labels, image sizes in bytes and class names: the same wherever the rows are kept."""
        sizes = self._rows.sizes(IMAGE)
        return sha256_of(self._labels, *sizes, repr(self.classes).encode())
