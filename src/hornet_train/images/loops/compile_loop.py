"""Compile the loops over pixels by numba.

The loops are written so that numba compiles them well: a loop over one index from 0 on slices becomes vector
instructions, others do not, and each constant has the type that the result is to have. Floats are float32,
and products and sums are rounded one by one, so that a result does not depend on the processor.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar, cast

from hornet_train.compile_note import say_when_compiling
from hornet_train.untrusted import may_cache_code

P = ParamSpec("P")
R = TypeVar("R")


def compiled(kernel: Callable[P, R]) -> Callable[P, R]:
    """Have numba compile a loop on its first call, which takes about a second, and cache the code on disk.

    Numba is imported on that first call, so that programs without such a loop do not wait for the import.
    """

    @cache
    def build() -> Callable[P, R]:
        import numba

        say_when_compiling()
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}
        try:
            return cast(Callable[P, R], numba.njit(kernel, cache=may_cache_code(), **options))
        except RuntimeError:  # the cache cannot be written, neither beside this file nor in the home folder
            return cast(Callable[P, R], numba.njit(kernel, **options))

    @wraps(kernel)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return build()(*args, **kwargs)

    return call
