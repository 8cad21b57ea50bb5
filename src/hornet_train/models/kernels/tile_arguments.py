"""The arguments of the loops that take blocks of rows through an operator; see `arguments` for the
fields' names.
"""

from __future__ import annotations

from typing import NamedTuple


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
    zeros: int  # as many as there are columns of a product
    block: int
    scratch: int
    scratch_bytes: int


class MlpTilesFlags(NamedTuple):
    x: bool
    kept: bool
    out: bool
    keep: bool


class MlpGradientTiles(NamedTuple):
    """The gradients of a piece of rows, of which `row` is the first of all.

    above (factor times the gradient), normed, inner (the gradient before GELU) and after (GELU) are
    written for the weights' gradients, in blocks of LANES channels, `held_block` apart. totals: of each
    block of rows, the gradients of b1, the norm's weight and bias, and b2.
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
    zeros: int  # as many as there are columns of a product
    block: int
    scratch: int
    scratch_bytes: int


class MlpGradientTilesFlags(NamedTuple):
    x: bool
    gradient: bool
    kept: bool


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
    one: int  # 1.0 in memory
    block: int
    scratch: int
    scratch_bytes: int


class ProjectionTilesFlags(NamedTuple):
    x: bool
    out: bool


class ProjectionGradientTiles(NamedTuple):
    """The gradients of a piece of rows; above (the gradient) and normed are written in blocks of channels.

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
    zeros: int  # as many as there are columns of a product
    one: int  # 1.0 in memory
    block: int
    scratch: int
    scratch_bytes: int


class ProjectionGradientTilesFlags(NamedTuple):
    x: bool
    gradient: bool


class GatingTiles(NamedTuple):
    """Gating of rows, in blocks; behind it a GatingOrder for each order.

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


class GatingOrder(NamedTuple):
    """Its width, the channels of all before it, and what widens x to it: packed for each pass, and a bias."""

    width: int
    skipped: int
    weight: int
    weight_back: int
    bias: int


class GatingGradientTiles(NamedTuple):
    """The gradients of a piece of rows, of which `row` is the first of all; behind it, GatingOrders.

    inputs (what is widened or projected) and above (its gradients: of each order's product, then of the
    output) are written in blocks of LANES channels. totals: of each block of rows, the sums of `above`.
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
    zeros: int  # as many as there are columns of a product
    block: int
    scratch: int
    scratch_bytes: int


class GatingGradientTilesFlags(NamedTuple):
    p: bool
    gates: bool
    gradient: bool
