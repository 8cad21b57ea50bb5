"""Images in class folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hornet_train.data.sources.cache import load
from hornet_train.data.sources.listing import scan_split
from hornet_train.data.sources.source import sha256_of
from hornet_train.data.sources.tree import Tree
from hornet_train.errors import DataError
from hornet_train.images.decode import read_image


class FolderSource:
    """Images in class folders: `root/<split>/<class>/**/<name>.{jpg,jpeg,png,webp}`, torchvision's layout.

    Labels are the positions of the class names in sorted order, or in `classes` where given. Names are taken
    in sorted order; those that start with a dot are passed over (`._x.jpg`, `.ipynb_checkpoints`).

    Attributes:
        classes: class names in label order.
        ignored: files inside class folders that were not taken because their names are not those of images.
    """

    def __init__(
        self, root: str | os.PathLike[str], split: str, classes: Sequence[str] | None = None
    ) -> None:
        """List the images.

        Args:
            root: the folder that holds `train` and `val` (`data.root`).
            split: the name of the folder in it.
            classes: the class names in label order, as of the training split. A class without a folder then
                has no samples here; a folder that is not in `classes` is a fault.

        Raises:
            DataError: no such root or split, folders without images, or classes not in `classes`: all at
                once.
        """
        listing = scan_split(Path(root).expanduser(), split, classes)
        self.ignored = listing.tree.ignored
        self._folder = listing.folder
        self._tree = listing.tree
        self._kept = listing.kept
        self._files = len(listing.tree)
        self._arrange(listing.classes)

    def _arrange(self, classes: tuple[str, ...]) -> None:
        places = {name: place for place, name in enumerate(self._tree.classes)}
        self.classes = classes
        self._places = [places.get(name, -1) for name in classes]  # of each label's folder in the tree
        sizes = np.append(np.diff(self._tree.first), 0)[self._places]  # the appended 0 is -1's
        self._first = np.append(0, np.cumsum(sizes))  # samples before each label

    def in_order(self, classes: Sequence[str]) -> FolderSource:
        """The same images with the same classes in another order of the labels."""
        if sorted(classes) != sorted(self.classes):
            raise ValueError("an order of other classes")
        other = copy(self)
        other._arrange(tuple(classes))
        return other

    def __len__(self) -> int:
        return int(self._first[-1])

    def read(self, index: int) -> tuple[Tensor, int]:
        return read_image(self.locate(index)), self._label(index)

    def locate(self, index: int) -> str:
        label = self._label(index)
        place = self._places[label]
        _, name = self._tree.name(int(self._tree.first[place]) + index - int(self._first[label]))
        return os.fsdecode(os.path.join(os.fsencode(self._folder / self.classes[label]), name))

    def _label(self, index: int) -> int:
        return int(np.searchsorted(self._first, index, side="right")) - 1

    @property
    def fingerprint(self) -> str:
        tree = self._tree
        return sha256_of(tree.names, tree.ends, self._first, repr((tree.classes, self.classes)).encode())

    def __getstate__(self) -> dict[str, Any]:
        """To a worker goes the name of a kept tree and not the tree, so that all map the same files."""
        return {**self.__dict__, "_tree": None if self._kept else self._tree}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._kept is not None:
            tree: Tree | None = load(self._kept)
            if tree is None or len(tree) != self._files:
                raise DataError(f"{self._kept}: the scan kept there is another by now; start again")
            self._tree = tree
