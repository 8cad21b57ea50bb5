"""The arguments of the loops of the global filter; see `arguments` for the fields' names.

Maps are in blocks of LANES channels, (rows, LANES) each, the pixels of all images one behind the other.
"""

from __future__ import annotations

from typing import NamedTuple


class Apply(NamedTuple):
    """out (rows, LANES) = matrix (rows, depth) b (depth, LANES)."""

    matrix: int
    rows: int
    depth: int
    b: int
    b_step: int
    out: int
    out_step: int


class Spectra(NamedTuple):
    """Complex values of LANES channels each, (columns, re | im, height)."""

    spectrum: int
    filter: int
    gradient: int
    total: int
    columns: int
    height: int


class Fourier(NamedTuple):
    """The filter of blocks of channels: x to out, each block of `.._block` bytes; matrices as `Matrices`.

    filters: (blocks, columns, re | im, height, LANES).
    """

    x: int
    x_block: int
    out: int
    out_block: int
    across: int
    down: int
    up: int
    back: int
    filters: int
    images: int
    blocks: int
    height: int
    width: int
    scratch: int
    scratch_bytes: int


class FourierGradient(NamedTuple):
    """From `gradient`, that of out, the gradient of x into out; totals (groups, like filters).

    `back_t` and so on are the transposed matrices.
    """

    x: int
    x_block: int
    gradient: int
    gradient_block: int
    out: int
    out_block: int
    across: int
    down: int
    across_t: int
    down_t: int
    up_t: int
    back_t: int
    filters: int
    totals: int
    groups: int
    images: int
    blocks: int
    height: int
    width: int
    scratch: int
    scratch_bytes: int


class Blocked(NamedTuple):
    """Norm of rows x into blocks of LANES channels."""

    x: int
    x_step: int
    weight: int
    bias: int
    out: int
    out_block: int
    rows: int
    channels: int
    block: int


class BlockedGradient(NamedTuple):
    """The reverse of Blocked: the gradient of x; totals: of each block of rows, those of weight and bias."""

    x: int
    x_step: int
    above: int
    above_block: int
    weight: int
    out: int
    out_step: int
    totals: int
    rows: int
    channels: int
    block: int


class Interleave(NamedTuple):
    """Norm of rows in blocks, whose halves alternate in out; weight and bias: the even channels first.

    The backward pass reads the gradient of out and writes that of `mixed` into its place, and totals: of each
    block of rows, those of weight and bias.
    """

    mixed: int
    mixed_block: int
    weight: int
    bias: int
    out: int
    out_step: int
    totals: int
    rows: int
    channels: int
    block: int


class InterleaveFlags(NamedTuple):
    half: bool  # whether out, or its gradient, is bfloat16
