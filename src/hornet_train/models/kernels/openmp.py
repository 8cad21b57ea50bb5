"""Runs compiled loops on the threads that torch itself uses.

A pool of our own would fight with torch's: its threads keep spinning for a while after each operation, on the
cores that ours would run on. So the loops are handed to the OpenMP library that torch has loaded.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache

import numpy as np
import torch

THREAD_NUMBER, THREAD_COUNT = "hornet_thread_number", "hornet_thread_count"  # symbols in compiled loops


@cache
def _library() -> ctypes.CDLL | None:
    """What torch's own library sees of OpenMP; None where that is not OpenMP as GCC's code calls it."""
    try:
        library = ctypes.CDLL(torch._C.__file__)
        functions = (library.GOMP_parallel, library.omp_get_thread_num, library.omp_get_num_threads)
    except (OSError, AttributeError):
        return None
    functions[0].argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    functions[0].restype = None
    return library


def available() -> bool:
    """Whether loops can run on torch's threads here: they can under Linux, with the wheels on PyPI."""
    return _library() is not None


@cache
def export_symbols() -> None:
    """Tell the compiler where the thread's number and count come from, under this module's names."""
    import llvmlite.binding

    library = _library()
    assert library is not None, "ask available() first"
    for name, function in (
        (THREAD_NUMBER, library.omp_get_thread_num),
        (THREAD_COUNT, library.omp_get_num_threads),
    ):
        llvmlite.binding.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)


def run(loop: int, arguments: Sequence[int], scratch_bytes: int) -> None:
    """Call a compiled loop once on each thread, and wait.

    Args:
        loop: the address of a `void (int64_t *arguments)`.
        arguments: what it reads; behind them are put the next argument and the address of the scratch memory.
        scratch_bytes: zeroed memory for each thread, one piece after the other.
    """
    library = _library()
    assert library is not None, "ask available() first"
    threads = torch.get_num_threads()
    scratch = np.zeros(threads * scratch_bytes, np.uint8)
    packed = np.array([*arguments, scratch_bytes, scratch.ctypes.data], np.int64)
    library.GOMP_parallel(loop, packed.ctypes.data, threads, 0)
