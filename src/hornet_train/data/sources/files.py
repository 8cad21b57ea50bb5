"""Files read one by one: a list of them, or all those of a tree of folders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hornet_train.data.sources.cache import load, scan_cached
from hornet_train.data.sources.kept_files import Changed, changed_since, with_files
from hornet_train.data.sources.packed import PackedPaths
from hornet_train.data.sources.source import Encoded
from hornet_train.data.sources.tree import Tree
from hornet_train.errors import DataError
from hornet_train.images.decode import read_bytes


def read_file(path: str) -> Encoded:
    """The content of one file.

    Raises:
        SampleError: it cannot be read; the message names it.
    """
    return Encoded(read_bytes(path), path)


class FileList:
    """Files of one folder by their paths in it, in a given order.

    Attributes:
        folder: the one.
        paths: of the files, relative to the folder.
    """

    def __init__(self, folder: Path, paths: Iterable[bytes]) -> None:
        self.folder = folder
        self.paths = PackedPaths(paths)

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[bytes]:
        """The paths."""
        return (self.paths[index] for index in range(len(self)))

    def locate(self, index: int) -> str:
        """The path of a file."""
        return os.path.join(self.folder, os.fsdecode(self.paths[index]))

    def read(self, index: int) -> Encoded:
        """The content of a file; see `read_file`."""
        return read_file(self.locate(index))


class FileTree:
    """The files below the folders in a folder. A large tree is kept in the cache folder and mapped from it.

    Attributes:
        folder: the one that was scanned.
        tree: its files, folder by folder.
        changed: what has come and gone since it was listed for the run that goes on. Where files have only
            gone, they are in the tree all the same, and cannot be read.
    """

    def __init__(self, folder: Path, extensions: tuple[str, ...], kept: Path | None = None) -> None:
        """List the files.

        Args:
            folder: holds the folders.
            extensions: of the files to take, in lower case, each with its dot; case does not matter.
            kept: the list of its files that the run has which goes on (see `keep_files`).

        Raises:
            DataError: the folder itself cannot be listed; what is wrong below it stands in `tree.faults`.
        """
        try:
            tree, scanned = scan_cached(folder, extensions)
        except OSError as error:
            raise DataError(
                f"{folder}: cannot be listed ({error.strerror}); check its permissions"
            ) from error
        self.changed = Changed() if kept is None else changed_since(tree, kept)
        if self.changed.gone and not self.changed.new:
            tree, scanned = with_files(tree, self.changed.gone), None
        self.folder = folder
        self.tree = tree
        self._kept = scanned
        self._files = len(tree)

    def __len__(self) -> int:
        return self._files

    def locate(self, index: int) -> str:
        """The path of a file."""
        top, name = self.tree.name(index)
        return os.fsdecode(os.path.join(os.fsencode(self.folder / self.tree.folders[top]), name))

    def read(self, index: int) -> Encoded:
        """The content of a file; see `read_file`."""
        return read_file(self.locate(index))

    def __getstate__(self) -> dict[str, Any]:
        """A worker gets the name of a tree in the cache and not its content, so that all map one file."""
        return {**self.__dict__, "tree": None if self._kept else self.tree}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._kept is not None:
            tree: Tree | None = load(self._kept)
            if tree is None or len(tree) != self._files:
                raise DataError(f"{self._kept}: the scan kept there is another by now; start again")
            self.tree = tree
