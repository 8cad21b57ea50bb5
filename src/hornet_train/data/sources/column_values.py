"""The distinct values of a table's column, and which of them each row has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hornet_train.data.sources.columns import Integers
from hornet_train.errors import DataError


@dataclass(frozen=True)
class ColumnValues:
    """Values of one type, whole floating-point numbers as integers.

    Attributes:
        values: those that occur, sorted.
        missing: rows without one: null, NaN or an empty text.
        rows: of the column.
    """

    values: tuple[Any, ...]
    missing: int
    rows: int


def column_values(column: Any) -> ColumnValues:
    """What occurs in an arrow array or chunked array."""
    column = _without_missing(column)
    missing = column.null_count
    found = column.unique().drop_null().to_pylist()
    return ColumnValues(tuple(sorted(_plain(found))), missing, len(column))


def united(parts: Iterable[ColumnValues], where: str) -> ColumnValues:
    """What occurs in any of several columns. Raises DataError where one is of text and another is not."""
    parts = list(parts)
    values = {value for part in parts for value in part.values}
    if len({isinstance(value, str) for value in values}) > 1:
        raise DataError(f"{where}: some files hold text there and others numbers; write them alike")
    return ColumnValues(
        tuple(sorted(_plain(values))), sum(part.missing for part in parts), sum(part.rows for part in parts)
    )


def places(column: Any, values: Sequence[Any], of_values: Sequence[int]) -> Integers:
    """int64 (rows,): for each row of a column without missing values, the number that belongs to its value.

    Args:
        column: arrow array or chunked array.
        values: all that occur in it.
        of_values: the number of each.
    """
    import pyarrow

    column = _without_missing(column)
    if isinstance(column, pyarrow.ChunkedArray):
        column = column.combine_chunks()  # of thousands of chunks each would bring all values
    encoded = column.dictionary_encode()
    chunks = encoded.chunks if isinstance(encoded, pyarrow.ChunkedArray) else [encoded]
    number_of = dict(zip(values, of_values, strict=True))
    parts = [np.empty(0, dtype=np.int64)]
    for chunk in chunks:
        numbers = np.array([number_of[value] for value in chunk.dictionary.to_pylist()], dtype=np.int64)
        parts.append(numbers[chunk.indices.to_numpy(zero_copy_only=False)])
    return np.concatenate(parts)


def _plain(values: Iterable[Any]) -> Iterable[Any]:
    """Floating-point numbers as integers where all are whole: pandas makes 1.0 of 1 in a column with gaps."""
    values = list(values)
    if any(isinstance(value, float) for value in values) and all(float(v).is_integer() for v in values):
        return [int(value) for value in values]
    return values


def _without_missing(column: Any) -> Any:
    """The column with null in place of NaN and empty texts, and values in place of a dictionary's keys."""
    import pyarrow
    import pyarrow.compute as compute

    kind = column.type
    if pyarrow.types.is_dictionary(kind):
        kind = kind.value_type
        column = column.cast(kind)
    if pyarrow.types.is_floating(kind):
        absent = compute.is_nan(column)
    elif pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind):
        absent = compute.equal(compute.utf8_length(column), 0)
    else:
        return column
    return compute.if_else(compute.fill_null(absent, True), pyarrow.scalar(None, kind), column)
