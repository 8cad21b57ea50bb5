"""Pictures that a table lists, with their labels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hornet_train.data.sources.files import FileList
from hornet_train.data.sources.listing import check_folder, preview, with_count
from hornet_train.errors import DataError
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
        turned = any(path != listed for (_, listed), path in zip(paths, found, strict=True) if path)
        there = (
            path or (_turned(listed or "", root) if turned else listed) or ""
            for (_, listed), path in zip(paths, found, strict=True)
        )
        places = {name: place for place, name in enumerate(classes)}
        labels = np.array([places[row.label] for row in rows], dtype=np.int64)
        super().__init__(FileList(root, map(os.fsencode, there)), labels, classes)


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
