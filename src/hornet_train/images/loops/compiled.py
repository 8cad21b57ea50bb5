"""How the loops over pixels are compiled.

What numba is written for shows in them: loops over one index from 0 on slices become vector instructions,
others do not, and a constant is of the type that its sum is to have. Floats are float32, products and sums
rounded one by one, so that a result does not depend on the processor.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, wraps
from typing import Any, ParamSpec, TypeVar, cast

from hornet_train.untrusted import may_cache_code

P = ParamSpec("P")
R = TypeVar("R")


def compiled(kernel: Callable[P, R]) -> Callable[P, R]:
    """A loop that numba compiles when it is first called, within a second or so, and keeps on disk.

    Who needs none does not wait for numba's import.
    """

    @cache
    def build() -> Callable[P, R]:
        import numba

        how: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}
        try:
            return cast(Callable[P, R], numba.njit(kernel, cache=may_cache_code(), **how))
        except RuntimeError:  # neither beside this file nor in the home folder can anything be written
            return cast(Callable[P, R], numba.njit(kernel, **how))

    @wraps(kernel)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return build()(*args, **kwargs)

    return call
