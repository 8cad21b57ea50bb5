"""Images in class folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import Tensor

from hornet_train.data.decode import read_image
from hornet_train.data.sources.listing import scan_split
from hornet_train.data.sources.source import sha256_of


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
        self.classes = listing.classes
        self.ignored = listing.ignored
        self._folder = os.fsencode(listing.folder)
        # Paths as one block of bytes: a list of 1.28 million str is copied page by page into every worker
        # as reference counts change, and takes seconds to pickle.
        self._names = np.frombuffer(b"".join(listing.paths), dtype=np.uint8)
        self._ends = np.cumsum([len(path) for path in listing.paths], dtype=np.int64)
        self._labels = np.asarray(listing.labels, dtype=np.int32)

    def __len__(self) -> int:
        return len(self._ends)

    def read(self, index: int) -> tuple[Tensor, int]:
        return read_image(self.locate(index)), int(self._labels[index])

    def locate(self, index: int) -> str:
        start = int(self._ends[index - 1]) if index else 0
        name = self._names[start : int(self._ends[index])].tobytes()
        return os.fsdecode(os.path.join(self._folder, name))

    @property
    def fingerprint(self) -> str:
        return sha256_of(self._names, self._ends, self._labels, repr(self.classes).encode())
