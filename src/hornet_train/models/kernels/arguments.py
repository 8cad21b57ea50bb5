"""The arguments of the compiled loops: a structure each, packed by `openmp.run`, unpacked by `unpacked`.

All fields are int64: addresses in memory, extents, and distances in bytes. A `..._step` is the distance from
one row to the next, `..._block` that from LANES channels to the next, and `..._image`, `..._row` and
`..._pixel` are those between the parts of a map, `..._skip` what lies between LANES channels and the next.
Beside them, `...Halves` and `...Flags` say which arrays are bfloat16 (else float32), and what there is; a
loop is compiled for each such choice.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Filter(NamedTuple):
    """A depthwise convolution: the maps x and out, kernel (K, K, channels), bias; scratch of each thread."""

    x: int
    x_image: int
    x_row: int
    x_pixel: int
    x_skip: int
    out: int
    out_image: int
    out_row: int
    out_pixel: int
    out_skip: int
    kernel: int
    bias: int
    images: int
    height: int
    width: int
    channels: int
    scratch_bytes: int
    scratch: int


class FilterGradient(NamedTuple):
    """The gradients of its kernel and bias: the maps x and gradient; totals (groups, K * K + 1, channels)."""

    x: int
    x_image: int
    x_row: int
    x_pixel: int
    x_skip: int
    gradient: int
    gradient_image: int
    gradient_row: int
    gradient_pixel: int
    gradient_skip: int
    totals: int
    groups: int
    images: int
    height: int
    width: int
    channels: int
    scratch_bytes: int
    scratch: int


class Ring(NamedTuple):
    """A ring of K row buffers, `row_bytes` apart, and the map whose rows enter it, one block of channels."""

    address: int
    row_bytes: int
    source: int
    source_row: int
    source_pixel: int
    height: int
    width: int


class Tile(NamedTuple):
    """Some pixels of an output row: the `rows` rows of the kernel inside the map, the ring from `slot` on."""

    out: int
    ring: int
    row_bytes: int
    slot: int
    kernel: int
    rows: int
    bias: int


class Gelu(NamedTuple):
    """kept = product + bias; out = GELU(kept)."""

    product: int
    product_step: int
    bias: int
    kept: int
    kept_step: int
    out: int
    out_step: int
    rows: int
    channels: int


class GeluHalves(NamedTuple):
    product: bool  # and out
    kept: bool
    keep: bool  # whether to write kept


class GeluGradient(NamedTuple):
    """out = GELU(kept); gradient *= GELU'(kept); totals (groups, channels) of its rows."""

    kept: int
    kept_step: int
    gradient: int
    gradient_step: int
    out: int
    out_step: int
    totals: int
    groups: int
    rows: int
    channels: int


class GeluGradientHalves(NamedTuple):
    gradient: bool  # and out
    kept: bool


class Norm(NamedTuple):
    """out = LN(x) * weight + bias."""

    x: int
    x_step: int
    weight: int
    bias: int
    out: int
    out_step: int
    out_block: int
    rows: int
    channels: int


class NormHalves(NamedTuple):
    x: bool
    out: bool


class NormGradient(NamedTuple):
    """out = besides + the gradient of x, from `above`, that of Norm's out; totals (groups, 2, channels)."""

    x: int
    x_step: int
    above: int
    above_step: int
    above_block: int
    weight: int
    besides: int
    besides_step: int
    out: int
    out_step: int
    totals: int
    groups: int
    rows: int
    channels: int


class NormGradientHalves(NamedTuple):
    x: bool  # and out
    above: bool
    besides: bool
    add: bool  # whether there is a `besides`


class Gate(NamedTuple):
    """out = (a + bias) * gate."""

    a: int
    a_step: int
    a_block: int
    gate: int
    gate_step: int
    out: int
    out_step: int
    out_block: int
    bias: int
    rows: int
    channels: int


class GateHalves(NamedTuple):
    a: bool
    gate: bool
    out: bool
    add: bool  # whether there is a bias


class GateGradient(NamedTuple):
    """From `above`, the gradient of Gate's out: for_gate; out, that of a; totals (groups, channels) of it."""

    a: int
    a_step: int
    a_block: int
    gate: int
    gate_step: int
    above: int
    above_step: int
    above_block: int
    for_gate: int
    for_gate_step: int
    out: int
    out_step: int
    out_block: int
    bias: int
    totals: int
    groups: int
    rows: int
    channels: int


class GateGradientHalves(NamedTuple):
    a: bool
    gate: bool  # and for_gate
    above: bool
    out: bool
    add: bool  # whether there is a bias


def code_of(flags: tuple[bool, ...]) -> int:
    """One of the `...Halves` as a number, which numba takes for a constant of a loop."""
    return sum(flag << bit for bit, flag in enumerate(flags))


def flags_of(kind: Any, code: int) -> Any:
    """The reverse of `code_of`."""
    return kind(*(bool(code >> bit & 1) for bit in range(len(kind._fields))))
