"""Pictures that a table lists, with their labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any, Self

import numpy as np

from hornet_train.data.sources.files import FileList
from hornet_train.data.sources.listing import check_folder, preview, with_count
from hornet_train.data.sources.source import Fields, sha256_of
from hornet_train.errors import DataError
from hornet_train.tasks.classification.sources.label_table import Row, relative_path
from hornet_train.tasks.classification.sources.labelled import IMAGE, LABEL, ListedImages


class ListedFiles(ListedImages):
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
        paths = [(row, relative_path(row.file, root)) for row in rows]
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
        self.classes, self.ignored = tuple(classes), dict[str, int]()
        turned = any(path != listed for (_, listed), path in zip(paths, found, strict=True) if path)
        self._files = FileList(
            root,
            (
                os.fsencode(path or (_turned(listed or "", root) if turned else listed) or "")
                for (_, listed), path in zip(paths, found, strict=True)
            ),
        )
        places = {name: place for place, name in enumerate(classes)}
        self._labels = np.array([places[row.label] for row in rows], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: int) -> Fields:
        return {IMAGE: self._files.read(index), LABEL: int(self._labels[index])}

    def locate(self, index: int) -> str:
        return self._files.locate(index)

    def key(self, index: int) -> bytes:
        return self._files.paths[index]

    @property
    def labels(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        return self._labels

    def in_order(self, classes: Sequence[str]) -> Self:
        if set(self.classes) - set(classes):
            raise ValueError("an order of other classes")
        places = {name: place for place, name in enumerate(classes)}
        rows = np.array([places[name] for name in self.classes], dtype=np.int64)
        other = copy(self)
        other.classes, other._labels = tuple(classes), rows[self._labels]
        return other

    @property
    def fingerprint(self) -> str:
        return sha256_of(self._files.paths.block(), self._labels, repr(self.classes).encode())


def _existing(root: Path, paths: Sequence[str]) -> list[str | None]:
    """Each path as it is there, also where it was written with backslashes; None where it is not.

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

    found: list[str | None] = []
    for path in paths:
        if not is_there(path):
            slashed = _turned(path, root)
            found.append(slashed if slashed != path and slashed and is_there(slashed) else None)
        else:
            found.append(path)
    return found


def _turned(path: str, root: Path) -> str | None:
    """A path with slashes for its backslashes; None where it is then not below the root."""
    return relative_path(path.replace("\\", "/"), root)
