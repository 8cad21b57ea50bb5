"""Labelled images of Hugging Face `datasets`, with random access: of the hub, or of files."""

from __future__ import annotations

from collections.abc import Sequence

from hornet_train.data.sources.column_values import column_values, places
from hornet_train.data.sources.columns import column_of
from hornet_train.data.sources.hub import open_files, open_hub
from hornet_train.data.sources.index import read_index
from hornet_train.data.sources.source import Fields, sha256_of
from hornet_train.data.sources.split_files import Files, find_files, is_local, is_url
from hornet_train.data.sources.split_names import split_notes
from hornet_train.data.sources.table_rows import TableRows
from hornet_train.tasks.classification.sources.label_columns import find_columns
from hornet_train.tasks.classification.sources.label_values import classes_of_values
from hornet_train.tasks.classification.sources.labelled import IMAGE, LABEL
from hornet_train.tasks.classification.sources.labelled_tars import scan_labelled

_TAR_LABELS = (None, "cls", "json.label")  # what a scan of tars finds; other columns only `datasets` does


class HubSource:
    """One split of a data set that `datasets` reads, memory-mapped from its cache.

    Attributes:
        classes: class names in label order.
        absent: those without an image.
        split: its name as the data set spells it.
        paths: of the files, none for a data set of the hub.
        label_column: where the labels are.
        notes: a sentence for each thing that a user should know of.
    """

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
        """Open the split; the first time, it is downloaded or converted into the cache of `datasets`.

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
        index = None
        self.paths: tuple[str, ...] = ()
        if is_local(path_or_name, config_name, revision):
            files = find_files(path_or_name, split)
            self.paths = files.paths
            index = read_index(files.paths, files.split, "classes")
            if image_column is None and label_column in _TAR_LABELS:
                _check_tars(files)
            table = open_files(files, path_or_name)
            if index is not None:
                index.check_total(files.paths, len(table.rows))
        else:
            table = open_hub(path_or_name, split, config_name, revision)
        self.split = table.split
        where = f"data.name={path_or_name}, split {self.split}"
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
        self.classes, self.absent, self.label_column = read.classes, read.absent, columns.label
        self.notes = (*split_notes(split, self.split), *read.notes)
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


def _check_tars(files: Files) -> None:
    """Raises DataError where a sample of local tars is incomplete: `datasets` does not say which."""
    if files.format == "webdataset" and not is_url(files.paths[0]):
        scan_labelled(files.paths)
