"""The paths of many files in few bytes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np


class PackedPaths:
    """Paths below one folder, as one block of bytes.

    A list of 1.28 million str is copied page by page into every worker as reference counts change, and takes
    seconds to pickle.

    Attributes:
        names: uint8, the relative paths one after the other, as the file system's bytes.
        ends: int64 (n,), where each ends.
    """

    def __init__(self, folder: Path, names: Sequence[bytes]) -> None:
        """`names`: relative to `folder`."""
        self._folder = os.fsencode(folder)
        self.names = np.frombuffer(b"".join(names), dtype=np.uint8)
        self.ends = np.cumsum([len(name) for name in names], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        """The whole path of file `index`."""
        start = int(self.ends[index - 1]) if index else 0
        name = self.names[start : int(self.ends[index])].tobytes()
        return os.fsdecode(os.path.join(self._folder, name))
