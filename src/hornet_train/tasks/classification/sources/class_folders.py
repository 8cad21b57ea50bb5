"""Images in class folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any, Self

import numpy as np

from hornet_train.data.sources.files import FileTree
from hornet_train.data.sources.listing import check_folder, names_in, preview, same_text
from hornet_train.data.sources.litter import is_litter
from hornet_train.data.sources.source import Fields, sha256_of
from hornet_train.data.sources.tree import Tree
from hornet_train.errors import DataError
from hornet_train.file_names import as_text
from hornet_train.images.formats import EXTENSIONS
from hornet_train.tasks.classification.sources.labelled import IMAGE, LABEL, ListedImages


class FolderSource(ListedImages):
    """Images in class folders: `root/<split>/<class>/**/<picture>`, torchvision's layout.

    Labels are the positions of the class names in sorted order, or in `classes` where given. Names are taken
    in sorted order; litter is skipped (`._x.jpg`, `@eaDir`; see `is_litter`).

    Attributes:
        classes: class names in label order.
        files: those of the images.
        ignored: extension -> files inside class folders that are no images by name, and were not taken.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str,
        classes: Sequence[str] | None = None,
        *,
        held_out: bool = False,
        kept: Path | None = None,
    ) -> None:
        """List the images.

        Args:
            root: the folder that holds `train` and `val` (`data.root`).
            split: the name of the folder in it.
            classes: the class names in label order, as of the training split. A class without a folder then
                has no samples here; a folder that is not in `classes` is a fault.
            held_out: whether class folders without an image are passed over, as if they were not there:
                nothing is learned from these images.
            kept: see `FileTree`.

        Raises:
            DataError: no such root or split, folders without images, or classes not in `classes`: all at
                once.
        """
        folder = _find(Path(root).expanduser(), split)
        self.files = FileTree(folder, EXTENSIONS, kept)
        tree = self.files.tree
        self._names = tuple(map(as_text, tree.folders))
        names = self._names if classes is None else tuple(classes)
        if classes is None and held_out:
            sizes = np.diff(tree.first)
            names = tuple(name for name, size in zip(names, sizes, strict=True) if size) or names
        if faults := _faults(folder, tree, self._names, names, empty_too=held_out):
            listed = "\n".join(f"  - {fault}" for fault in faults)
            raise DataError(
                f"{folder}: {faults[0]}" if len(faults) == 1 else f"{folder}: {len(faults)} faults\n{listed}"
            )
        self.ignored = tree.ignored
        self._arrange(names)

    def _arrange(self, classes: tuple[str, ...]) -> None:
        """Number the samples by class, in the order of `classes`."""
        tree = self.files.tree
        places = {name: place for place, name in enumerate(self._names)}
        self.classes = classes
        self._places = [places.get(name, -1) for name in classes]  # of each label's folder in the tree
        sizes = np.append(np.diff(tree.first), 0)[self._places]  # the appended 0 is -1's
        self._first = np.append(0, np.cumsum(sizes))  # samples before each label

    def in_order(self, classes: Sequence[str]) -> Self:
        if set(self.classes) - set(classes):
            raise ValueError("an order of other classes")
        other = copy(self)
        other._arrange(tuple(classes))
        return other

    @property
    def labels(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.repeat(np.arange(len(self.classes)), np.diff(self._first))

    def key(self, index: int) -> bytes:
        top, name = self.files.tree.name(self._file(index, self._label(index)))
        return os.path.join(os.fsencode(self.files.tree.folders[top]), name)

    def __len__(self) -> int:
        return int(self._first[-1])

    def read(self, index: int) -> Fields:
        label = self._label(index)
        return {IMAGE: self.files.read(self._file(index, label)), LABEL: label}

    def locate(self, index: int) -> str:
        return self.files.locate(self._file(index, self._label(index)))

    def _label(self, index: int) -> int:
        return int(np.searchsorted(self._first, index, side="right")) - 1

    def _file(self, index: int, label: int) -> int:
        """The place in the tree of a sample's file."""
        return int(self.files.tree.first[self._places[label]]) + index - int(self._first[label])

    @property
    def fingerprint(self) -> str:
        tree = self.files.tree
        return sha256_of(tree.names, tree.ends, self._first, repr((tree.folders, self.classes)).encode())


def _find(root: Path, split: str) -> Path:
    check_folder(root, "set data.root= to the folder that holds train/ and val/", "data.root=")
    folder = root / split
    if not folder.is_dir():
        present = sorted(name for name in names_in(root, folders=True) if not is_litter(name))
        holds = f"there are: {preview(present)}" if present else "it holds no folders"
        raise DataError(f"data.root={root} has no folder {split}/; {holds}")
    return folder


def _faults(
    folder: Path, tree: Tree, found: tuple[str, ...], classes: tuple[str, ...], *, empty_too: bool
) -> list[str]:
    """Why the files below a split's folder are not images in these classes' folders, each with its remedy.

    With `empty_too`, folders without an image are none of these. `found`: the names of its folders as text.
    """
    faults = [*tree.faults, *same_text(found)]
    if not found:
        loose = sum(name.lower().endswith(EXTENSIONS) for name in names_in(folder, folders=False))
        lying = f" ({loose} images lie in it directly)" if loose else ""
        faults.append(
            f"it has no class folders{lying}; sort the images into one folder a class, or for ImageNet's "
            "flat val folder name its labels: data.val_labels=<file>"
        )
    filled = [name for name, size in zip(found, np.diff(tree.first), strict=True) if size]
    if unknown := sorted(set(filled if empty_too else found) - set(classes)):
        faults.append(
            f"{_count(unknown, 'class folder')} not among the {len(classes)} classes; remove or rename"
        )
    empty = sorted((set(found) - set(filled)) & set(classes))
    if empty and not empty_too:
        extensions = ", ".join(extension[1:] for extension in EXTENSIONS)
        faults.append(f"{_count(empty, 'class folder')} without an image ({extensions}); fill or remove")
    if found and not len(tree):
        faults.append("it has no images at all; is the archive unpacked?")
    return faults


def _count(names: Sequence[str], noun: str) -> str:
    return f"{len(names)} {noun}{'s' if len(names) > 1 else ''} ({preview(names)})"
