"""How vector instructions get into numba's loops.

What a compiler makes of plain loops keeps its sums in memory, one load and one store a product; here they
stay in registers over a whole row. The instructions are written as operations on LLVM's vectors, which become
those of AVX2, AVX-512 or NEON.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import signature
from pathlib import Path
from typing import Any, get_type_hints

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic

from hornet_train.models.kernels import LANES
from hornet_train.models.kernels.arguments import flags_of

_HERE = Path(__file__).parent
_SOURCES = (
    *(_HERE / name for name in ("__init__.py", "compile_kernel.py", "instructions.py")),
    *sorted(_HERE.glob("*arguments.py")),
    *sorted(_HERE.glob("*_vectors.py")),
)
# of the code that is compiled into loops from beside their own file, for the copies of them that are kept
VERSION = zlib.crc32(b"".join(path.read_bytes() for path in _SOURCES))


def _features() -> dict[str, bool]:
    """What the processor can do, or the one that numba is told to compile for (NUMBA_CPU_FEATURES)."""
    told: str | None = vars(config)["CPU_FEATURES"]
    if told is None:
        return dict(llvmlite.binding.get_host_cpu_features())
    return {one[1:]: one[0] == "+" for one in told.split(",") if one}


_FEATURES = _features()
WIDTH = 16 if _FEATURES.get("avx512f") else 8  # floats of an instruction
HAS_BFLOAT16 = bool(_FEATURES.get("avx512bf16"))  # an instruction that rounds to bfloat16

FLOAT, I64 = ir.FloatType(), ir.IntType(64)
_I16, _I32 = ir.IntType(16), ir.IntType(32)
VECTOR = ir.VectorType(FLOAT, WIDTH)
BLOCK = ir.VectorType(FLOAT, LANES)
BLOCK16 = ir.VectorType(_I16, LANES)
BLOCK32 = ir.VectorType(_I32, LANES)


def instruction(emit: Callable[..., None]) -> Any:
    """A function for numba's loops, whose code `emit(builder, *arguments)` writes.

    What `emit` declares as an int, a bool or one of the `...Halves` must be a constant where it is called (a
    `...Halves` as its `code_of`); `emit` is given its value. Another structure has int64 in the loop, and
    `emit` is given the same structure of LLVM values; any other argument is one int64.
    """
    kinds = [kind for name, kind in list(get_type_hints(emit).items())[1:] if name != "return"]

    def typed(_typing: Any, *given: Any) -> Any:
        taken = [_taken(kind, one) for kind, one in zip(kinds, given, strict=True)]

        def generate(context: Any, builder: ir.IRBuilder, _: Any, values: list[ir.Value]) -> ir.Value:
            emit(builder, *(read(builder, value) for (_, read), value in zip(taken, values, strict=True)))
            return context.get_dummy_value()

        return types.void(*(numba_type for numba_type, _ in taken)), generate

    vars(typed)["__signature__"] = signature(emit)  # numba wants to know how many arguments there are
    return intrinsic(prefer_literal=True)(typed)


def _taken(kind: Any, given: Any) -> tuple[Any, Callable[[ir.IRBuilder, ir.Value], Any]]:
    """The numba type of an argument that is declared as `kind`, and what `emit` gets for its LLVM value."""
    if kind in (int, bool):
        return given, lambda _builder, _value: given.literal_value
    if kind is ir.Value:
        return types.int64, lambda _builder, value: value
    if set(get_type_hints(kind).values()) == {bool}:
        return given, lambda _builder, _value: flags_of(kind, given.literal_value)
    structure = types.NamedUniTuple(types.int64, len(kind._fields), kind)
    return structure, lambda builder, value: kind(*cgutils.unpack_tuple(builder, value))


def load(builder: ir.IRBuilder, address: ir.Value, kind: ir.VectorType) -> ir.Value:
    value = builder.load(builder.inttoptr(address, kind.as_pointer()))
    value.align = 2 if kind is BLOCK16 else 4
    return value


def store(builder: ir.IRBuilder, value: ir.Value, address: ir.Value) -> None:
    builder.store(value, builder.inttoptr(address, value.type.as_pointer())).align = (
        2 if value.type == BLOCK16 else 4
    )


def fused(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
    """a * b + c, rounded once."""
    kind = ir.FunctionType(VECTOR, [VECTOR] * 3)
    name = f"llvm.fma.v{WIDTH}f32"
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [a, b, c])


def _all(value: int) -> ir.Constant:
    return ir.Constant(BLOCK32, [value] * LANES)


def widened(builder: ir.IRBuilder, place: ir.Value, half: bool) -> ir.Value:
    """LANES values from memory in float32; with `half` they are bfloat16, the upper half of a float32."""
    if not half:
        return load(builder, place, BLOCK)
    wide = builder.zext(load(builder, place, BLOCK16), BLOCK32)
    return builder.bitcast(builder.shl(wide, _all(16)), BLOCK)


class _BFloat(ir.Type):  # type: ignore[misc] # llvmlite, untyped, has no name for it
    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


def rounded(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """float32 to the nearest bfloat16, ties to even; not-a-number stays one."""
    if HAS_BFLOAT16:
        return builder.bitcast(builder.fptrunc(value, ir.VectorType(_BFloat(), LANES)), BLOCK16)
    bits = builder.bitcast(value, BLOCK32)
    odd = builder.and_(builder.lshr(bits, _all(16)), _all(1))
    up = builder.lshr(builder.add(builder.add(bits, _all(0x7FFF)), odd), _all(16))
    unordered = builder.fcmp_unordered("uno", value, value)
    return builder.trunc(builder.select(unordered, _all(0x7FC0), up), BLOCK16)


@dataclass
class Held:
    """Values that stay in registers over a loop.

    Attributes:
        index: of the turn, from 0.
        values: at a turn's begin, and behind the loop at its end.
        after: filled with the values at the turn's end.
    """

    index: ir.Value
    values: list[ir.Value]
    after: list[ir.Value] = field(default_factory=list)


@contextmanager
def summing(builder: ir.IRBuilder, turns: ir.Value, start: list[ir.Value]) -> Iterator[Held]:
    """The body of a loop of so many turns that carries values from one to the next."""
    entry = builder.block
    head, body, end = (builder.append_basic_block(name) for name in ("head", "body", "end"))
    builder.branch(head)
    builder.position_at_end(head)
    held = Held(builder.phi(I64), [builder.phi(value.type) for value in start])
    builder.cbranch(builder.icmp_signed("<", held.index, turns), body, end)
    builder.position_at_end(body)
    yield held
    carried = zip(
        [held.index, *held.values],
        [I64(0), *start],
        [builder.add(held.index, I64(1)), *held.after],
        strict=True,
    )
    for now, first, later in carried:
        now.add_incoming(first, entry)
        now.add_incoming(later, builder.block)
    builder.branch(head)
    builder.position_at_end(end)
