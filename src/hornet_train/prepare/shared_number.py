"""A number that two processes see, without /dev/shm: containers may have none that can be written."""

from __future__ import annotations

import mmap
import os
import struct
from multiprocessing import reduction
from typing import Any

_INT64 = struct.Struct("=q")


class SharedNumber:
    """An int64 in memory without a name; a process gets it as an argument at its start."""

    def __init__(self, value: int) -> None:
        self._descriptor = os.memfd_create("hornet-data")
        os.ftruncate(self._descriptor, _INT64.size)
        self._memory = mmap.mmap(self._descriptor, _INT64.size)
        self.value = value

    @property
    def value(self) -> int:
        number: int = _INT64.unpack_from(self._memory)[0]
        return number

    @value.setter
    def value(self, value: int) -> None:
        _INT64.pack_into(self._memory, 0, value)

    def close(self) -> None:
        """Let go of it here; may be called twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __reduce__(self) -> Any:
        return _attached, (reduction.DupFd(self._descriptor),)


def _attached(duplicate: Any) -> SharedNumber:
    """The number in the process that was started."""
    number = SharedNumber.__new__(SharedNumber)
    number._descriptor = duplicate.detach()
    number._memory = mmap.mmap(number._descriptor, _INT64.size)
    return number
