"""The arguments of matrix products and of what feeds them; see `arguments` for the fields' names."""

from __future__ import annotations

from typing import NamedTuple


class Product(NamedTuple):
    """out (rows, columns) = a (rows, depth) b, plus a bias of each column, plus, with `add`, what out was.

    a and out are in blocks of LANES columns, (.., LANES) each; b is in panels of COLUMNS, (.., COLUMNS) each,
    of which the `depth` rows behind `b_skipped` are taken.
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
    add: int


class Outer(NamedTuple):
    """out (rows, columns) += a^T b, of a (depth, rows) and b (depth, columns) in blocks of LANES columns."""

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
    added_half: bool
    out_half: bool


class Load(NamedTuple):
    """out = factor * source, in float32."""

    source: int
    source_step: int
    out: int
    out_step: int
    out_block: int
    channels: int


class LoadFlags(NamedTuple):
    half: bool
