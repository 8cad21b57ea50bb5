"""Pictures that a table lists, with their labels."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hornet_train.data.sources.files import FileList
from hornet_train.data.sources.listing import check_folder, preview, with_count
from hornet_train.errors import DataError
from hornet_train.file_names import file_name
from hornet_train.tasks.classification.sources.label_table import Row, relative_path
from hornet_train.tasks.classification.sources.labelled_files import LabelledFiles


class ListedFiles(LabelledFiles):
    """The files of some rows of a table, in its order.

    Attributes:
        missing: those that are not there. They keep their places, and cannot be read.
    """

    def __init__(
        self, root: Path, rows: Sequence[Row], classes: Sequence[str], table: Path, *, may_miss: int = 0
    ) -> None:
        """Look whether they are there.

        Args:
            root: the folder that the files are relative to.
            rows: of the table.
            classes: the distinct labels, in label order.
            table: the file, for messages.
            may_miss: how many files may be missing.

        Raises:
            DataError: more files are missing, or some are outside of the root.
        """
        key = f"data.file={table}"
        check_folder(root, "set data.root= to the folder that the files are relative to", "data.root=")
        paths = [(row, _below(row.file, root)) for row in rows]
        if outside := [row.file for row, path in paths if path is None]:
            raise DataError(
                f"{key}: {with_count(len(outside), 'file')} outside of data.root={root} "
                f"({preview(outside)}): data.root=<a folder above all of them>"
            )
        found = _existing(root, [path for _, path in paths if path is not None])
        missing = [row.file for (row, _), path in zip(paths, found, strict=True) if path is None]
        self.missing = tuple(missing)
        if len(missing) > may_miss:
            raise DataError(
                f"{key}: {len(missing):,} of {with_count(len(rows), 'file')} are not in data.root={root} "
                f"({preview(missing)}): fetch them or remove their lines, or set data.root= to the folder "
                "that the files are relative to (data.max_bad says how many may be missing)"
            )
        named = [(path, file_name(path or "")) for _, path in paths]
        turned = any(one and one not in ways for one, ways in zip(found, named, strict=True))
        there = (  # a missing file has the name that it would be found by, as if it were there
            one or (_turned(listed or "", root) if turned else name) or ""
            for one, (listed, name) in zip(found, named, strict=True)
        )
        places = {name: place for place, name in enumerate(classes)}
        labels = np.array([places[row.label] for row in rows], dtype=np.int64)
        super().__init__(FileList(root, map(os.fsencode, there)), labels, classes)


def _existing(root: Path, paths: Sequence[str]) -> list[str | None]:
    r"""Each path as it is there; None where it is not.

    One that is not there as it is written may be written with backslashes, or be a name that is not UTF-8 in
    the form in which this program shows it: `Gr\xf6b.jpg`.

    Each folder is listed once: on a network disk a question for each file would take minutes.
    """
    listed: dict[str, frozenset[str]] = {}

    def is_there(path: str) -> bool:
        folder, name = os.path.split(path)
        if folder not in listed:
            try:
                listed[folder] = frozenset(os.listdir(root / folder))
            except OSError:
                listed[folder] = frozenset()
        return name in listed[folder]

    def ways(path: str) -> Iterator[str | None]:
        yield path
        if "\\" in path:
            yield _turned(path, root)
            name = file_name(path)
            yield from (name, _turned(name, root))

    return [next((way for way in ways(path) if way and is_there(way)), None) for path in paths]


def _below(file: str, root: Path) -> str | None:
    """A file of a table relative to the root; None where it is not below it in either form of its name."""
    path = relative_path(file, root)
    return path if path is not None else relative_path(file_name(file), root)


def _turned(path: str, root: Path) -> str | None:
    """A path with slashes for its backslashes; None where it is then not below the root."""
    return relative_path(path.replace("\\", "/"), root)
