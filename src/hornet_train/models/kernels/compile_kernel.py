"""Compiles loops with numba, once on a machine, and gives them the number of their thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, register_jitable

from hornet_train.compile_note import say_when_compiling
from hornet_train.models.kernels.openmp import THREAD_COUNT, THREAD_NUMBER, export_symbols
from hornet_train.untrusted import may_cache_code

thread_number: Any = types.ExternalFunction(THREAD_NUMBER, types.int32())
thread_count: Any = types.ExternalFunction(THREAD_COUNT, types.int32())
_SIGNATURE = types.void(types.CPointer(types.int64))
_alive: list[Any] = []  # compiled loops, whose memory must last as long as the process


def compiled(loop: Callable[[Any], None]) -> int:
    """The address of a loop, compiled once on a machine and kept on disk.

    numba finds it again by the loop's own file and by the values that the loop closes over. `VERSION` must be
    one of these: it stands for the instructions, which are written in other files.
    """
    export_symbols()
    say_when_compiling()
    try:
        function = numba.cfunc(_SIGNATURE, cache=may_cache_code())(loop)
    except RuntimeError:  # nothing can be written beside that file or in the home folder
        function = numba.cfunc(_SIGNATURE)(loop)
    _alive.append(function)
    address: Any = function.address
    return int(address)


@register_jitable
def own_share(tasks: Any) -> Any:
    """The numbers of the tasks, out of so many, that are this thread's."""
    number, threads = thread_number(), thread_count()
    return range(tasks * number // threads, tasks * (number + 1) // threads)


@intrinsic
def _unpacked(_typing: Any, _arguments: Any, kind: Any) -> Any:
    """`unpacked(arguments, Kind)`: the structure from the array at `arguments`, in a compiled loop."""
    size = len(kind.instance_class._fields)
    made = types.NamedUniTuple(types.int64, size, kind.instance_class)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[ir.Value]) -> ir.Value:
        places = (builder.gep(values[0], [ir.IntType(64)(field)]) for field in range(size))
        return context.make_tuple(builder, signature.return_type, [builder.load(place) for place in places])

    return made(types.CPointer(types.int64), kind), generate


unpacked: Any = _unpacked  # untyped: numba passes the first argument itself
