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


def _structure(kind: Any) -> Any:
    """The numba type of a structure of int64."""
    return types.NamedUniTuple(types.int64, len(kind.instance_class._fields), kind.instance_class)


def _read(context: Any, builder: ir.IRBuilder, result: Any, first: ir.Value) -> ir.Value:
    """The structure that begins at an address."""
    places = (builder.gep(first, [ir.IntType(64)(field)]) for field in range(len(result)))
    return context.make_tuple(builder, result, [builder.load(place) for place in places])


@intrinsic
def _unpacked(_typing: Any, _arguments: Any, kind: Any) -> Any:
    """`unpacked(arguments, Kind)`: the structure from the array at `arguments`, in a compiled loop."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[ir.Value]) -> ir.Value:
        return _read(context, builder, signature.return_type, values[0])

    return _structure(kind)(types.CPointer(types.int64), kind), generate


@intrinsic
def _unpacked_at(_typing: Any, _arguments: Any, _place: Any, kind: Any) -> Any:
    """`unpacked_at(arguments, place, Kind)`: the same of one that lies behind the first `place` numbers."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, values: list[ir.Value]) -> ir.Value:
        return _read(context, builder, signature.return_type, builder.gep(values[0], [values[1]]))

    return _structure(kind)(types.CPointer(types.int64), types.int64, kind), generate


# untyped: numba passes the first argument itself
unpacked: Any = _unpacked
unpacked_at: Any = _unpacked_at
