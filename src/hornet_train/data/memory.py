"""How glibc's malloc keeps memory: the kernel clears every page that it hands out, which takes a while."""

from __future__ import annotations

import ctypes
import platform

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8  # of mallopt(3)
_INT_MAX = 2**31 - 1
_USUAL_MMAPS = 65536


def _set(options: dict[int, int]) -> None:
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        for option, value in options.items():
            libc.mallopt(option, value)


def keep_freed_memory() -> None:
    """Give nothing back: what a step has freed, the next step takes.

    All blocks from one heap, of whatever thread: by default, those of more than 32 MB come from the kernel
    and go back to it each time, which took up to a quarter of a training step.
    """
    _set({_TRIM_THRESHOLD: _INT_MAX, _MMAP_MAX: 0, _ARENA_MAX: 1})


def keep_little_memory(kept: int) -> None:
    """Give back what is freed beyond so many bytes, and blocks of more than 32 MB, the most it takes."""
    _set({_TRIM_THRESHOLD: kept, _MMAP_THRESHOLD: 32 << 20, _MMAP_MAX: _USUAL_MMAPS})
