"""The arguments of the compiled loops: a structure each, packed by `openmp.run`, unpacked by `unpacked`.

All fields are int64: addresses in memory, extents, and distances in bytes. A `..._step` is the distance from
one row to the next, `..._block` that from LANES channels to the next, and `..._image`, `..._row` and `..._pixel` are
those between the parts of a map. Beside
them, `...Halves` say which arrays are bfloat16 (else float32); a loop is compiled for each such choice.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Filter(NamedTuple):
    """A depthwise convolution: the maps x and out, kernel (K, K, channels), bias; scratch of each thread."""

    x: int
    x_image: int
    x_row: int
    x_pixel: int
    out: int
    out_image: int
    out_row: int
    out_pixel: int
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
    gradient: int
    gradient_image: int
    gradient_row: int
    gradient_pixel: int
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


class Product(NamedTuple):
    """out (rows, columns) = a (rows, depth) b, with a bias of each column.

    a and out are in blocks of LANES columns, (.., LANES) each. b is in panels of COLUMNS, (.., COLUMNS) each, of
    which the `depth` rows behind `b_skipped` are taken.
    """

    a: int
    a_block: int
    b: int
    b_panel: int
    b_skipped: int
    depth: int
    out: int
    out_block: int
    rows: int
    columns: int
    bias: int


class ProductFlags(NamedTuple):
    bias: bool  # whether there is one
    add: bool  # whether to add to what out is


class Outer(NamedTuple):
    """out (rows, columns) += a^T b, of a (depth, rows) and b (depth, columns), both in blocks of LANES columns."""

    a: int
    a_block: int
    b: int
    b_block: int
    depth: int
    out: int
    out_step: int
    rows: int
    columns: int


class Pack(NamedTuple):
    """out: the panels of b (depth, columns), whose rows and columns lie `b_row` and `b_column` apart."""

    b: int
    b_row: int
    b_column: int
    out: int
    depth: int
    columns: int


class PackFlags(NamedTuple):
    along: bool  # whether the columns of a row lie side by side


class Finish(NamedTuple):
    """out = added + factor * branch."""

    branch: int
    branch_step: int
    branch_block: int
    added: int
    added_step: int
    out: int
    out_step: int
    channels: int


class FinishFlags(NamedTuple):
    add: bool  # whether there is something to add to
    scale: bool  # whether there is a factor
    added_half: bool
    out_half: bool


class MlpTiles(NamedTuple):
    """The MLP branch of rows x, in blocks; w1 and w2 are packed; hidden (rows, 4 channels) is kept."""

    x: int
    factors: int  # of each image's branch, `pixels` rows
    pixels: int
    norm_weight: int
    norm_bias: int
    w1: int
    b1: int
    w2: int
    b2: int
    kept: int
    out: int
    rows: int
    channels: int
    hidden: int
    block: int
    scratch: int
    scratch_bytes: int


class MlpTilesFlags(NamedTuple):
    x: bool
    kept: bool
    out: bool
    keep: bool
    scale: bool  # whether there are factors


class MlpGradientTiles(NamedTuple):
    """The gradients of a piece of rows, of which `row` is the first of all.

    above (factor times the gradient), normed, inner (the gradient before GELU) and after (GELU) are written for
    the weights' gradients, in blocks of LANES channels, `held_block` apart. totals: of each block of rows, the
    gradients of b1, the norm's weight and bias, and b2.
    """

    x: int
    gradient: int
    factors: int
    pixels: int
    norm_weight: int
    norm_bias: int
    w1: int
    w2: int
    kept: int
    out: int
    above: int
    normed: int
    inner: int
    after: int
    held_block: int
    totals: int
    row: int
    rows: int
    channels: int
    hidden: int
    block: int
    scratch: int
    scratch_bytes: int


class MlpGradientTilesFlags(NamedTuple):
    x: bool
    gradient: bool
    kept: bool
    scale: bool  # whether there are factors


class ProjectionTiles(NamedTuple):
    """Norm and projection of rows x, in blocks; `weight` is packed."""

    x: int
    norm_weight: int
    norm_bias: int
    weight: int
    bias: int
    out: int
    rows: int
    channels: int
    columns: int
    block: int
    scratch: int
    scratch_bytes: int


class ProjectionTilesFlags(NamedTuple):
    x: bool
    out: bool


class ProjectionGradientTiles(NamedTuple):
    """The gradients of a piece of rows; above (the gradient) and normed are written in blocks of LANES channels.

    totals: of each block of rows, the gradients of the norm's weight and bias, and of bias.
    """

    x: int
    gradient: int
    gradient_step: int
    norm_weight: int
    norm_bias: int
    weight: int
    out: int
    above: int
    normed: int
    held_block: int
    totals: int
    rows: int
    channels: int
    columns: int
    block: int
    scratch: int
    scratch_bytes: int


class ProjectionGradientTilesFlags(NamedTuple):
    x: bool
    gradient: bool


class GatingTiles(NamedTuple):
    """Gating of rows, in blocks. Behind it, for each order from the first: a GatingOrder.

    weight and bias are those of the last projection, packed; `widest` is the most channels of a product.
    """

    p: int
    p_step: int
    gates: int
    gates_step: int
    residual: int
    residual_step: int
    factors: int
    pixels: int
    weight: int
    bias: int
    out: int
    orders: int
    widest: int
    rows: int
    columns: int
    block: int
    scratch: int
    scratch_bytes: int


class GatingTilesFlags(NamedTuple):
    p: bool
    gates: bool
    residual: bool
    out: bool
    add: bool  # whether there is a residual
    scale: bool  # whether there are factors


class GatingOrder(NamedTuple):
    """Its width, the channels of all before it, and what widens x to it: packed for either pass, and a bias."""

    width: int
    skipped: int
    weight: int
    weight_back: int
    bias: int


class GatingGradientTiles(NamedTuple):
    """The gradients of a piece of rows, of which `row` is the first of all; behind it a GatingOrder for each.

    inputs (what is widened or projected) and above (its gradients: of each order's product, then of the output)
    are written in blocks of LANES channels. totals: of each block of rows, the sums of `above`.
    """

    p: int
    p_step: int
    gates: int
    gates_step: int
    gradient: int
    gradient_step: int
    factors: int
    pixels: int
    weight: int
    for_p: int
    for_gates: int
    inputs: int
    above: int
    held_block: int
    totals: int
    orders: int
    widest: int
    total_width: int
    row: int
    rows: int
    columns: int
    block: int
    scratch: int
    scratch_bytes: int


class GatingGradientTilesFlags(NamedTuple):
    p: bool
    gates: bool
    gradient: bool
    scale: bool  # whether there are factors


class Load(NamedTuple):
    """out = factor * source, in float32."""

    source: int
    source_step: int
    out: int
    out_step: int
    out_block: int
    channels: int


class LoadFlags(NamedTuple):
    scale: bool  # whether there is a factor
    half: bool


def code_of(flags: tuple[bool, ...]) -> int:
    """One of the `...Halves` as a number, which numba takes for a constant of a loop."""
    return sum(flag << bit for bit, flag in enumerate(flags))


def flags_of(kind: Any, code: int) -> Any:
    """The reverse of `code_of`."""
    return kind(*(bool(code >> bit & 1) for bit in range(len(kind._fields))))
