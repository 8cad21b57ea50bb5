"""The paths of many files in few bytes."""

from __future__ import annotations

from array import array
from collections.abc import Iterable


class PackedPaths:
    """Paths in one block of bytes: 14 million take some 0.5 GB, where a list of str takes 2.

    Such a list is also copied page by page into every worker as reference counts change, and takes seconds to
    pickle. Paths are the file system's bytes, relative to a folder that the owner knows.
    """

    def __init__(self, paths: Iterable[bytes] = ()) -> None:
        self._names = bytearray()
        self._ends = array("q")
        for path in paths:
            self.append(path)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> bytes:
        start = self._ends[index - 1] if index else 0
        return bytes(self._names[start : self._ends[index]])

    def append(self, path: bytes) -> None:
        self._names += path
        self._ends.append(len(self._names))

    def block(self) -> bytes:
        """Everything, for a fingerprint."""
        return bytes(self._names) + self._ends.tobytes()
