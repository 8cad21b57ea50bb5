"""Runs compiled loops on the threads that torch itself uses.

A pool of our own would fight with torch's: its threads keep spinning for a while after each operation, on the
cores that ours would run on. So the loops are handed to the OpenMP library that torch has loaded.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

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


def scratch(bytes_each: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Zeroed memory for all threads that `run` will use, so much for each, one piece behind the other."""
    return np.zeros(torch.get_num_threads() * bytes_each, np.uint8)


def run(loop: int, arguments: tuple[int, ...]) -> None:
    """Call a compiled loop once on each thread, and wait.

    Args:
        loop: the address of a `void (int64_t *arguments)`.
        arguments: its structure, one of `hornet_train.models.kernels.arguments`.
    """
    library = _library()
    assert library is not None, "ask available() first"
    packed = np.array(arguments, np.int64)
    library.GOMP_parallel(loop, packed.ctypes.data, torch.get_num_threads(), 0)
