"""Columns of a table: chosen by their types or by name, and looked up in tables and record batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hornet_train.data.sources.listing import preview
from hornet_train.errors import DataError, did_you_mean

Integers = np.ndarray[Any, np.dtype[np.int64]]
IsKind = Callable[[Any], bool]


def flat_features(features: Mapping[str, Any]) -> dict[str, Any]:
    """Features by the names of columns and, as `column.field`, of the fields of struct columns.

    Args:
        features: `datasets.Features`.
    """
    flat = dict(features)
    for name, feature in features.items():
        if isinstance(feature, dict) and not is_bytes_and_path(feature):
            flat |= {f"{name}.{field}": kind for field, kind in feature.items()}
    return flat


def is_image(feature: Any) -> bool:
    """Whether a feature is of the Image type of `datasets`."""
    import datasets

    return isinstance(feature, datasets.Image)


def is_bytes_and_path(feature: Any) -> bool:
    """Whether a feature is a struct {bytes, path}, as `datasets` stores files."""
    return isinstance(feature, dict) and {"bytes", "path"} == set(feature)


def is_binary(feature: Any) -> bool:
    """Whether a feature is of binary values."""
    import datasets

    return isinstance(feature, datasets.Value) and feature.dtype in ("binary", "large_binary")


def is_integer(feature: Any) -> bool:
    """Whether a feature is of integers."""
    import datasets

    return isinstance(feature, datasets.Value) and "int" in feature.dtype


def choose_column(
    flat: Mapping[str, Any],
    where: str,
    *,
    what: str,
    wanted: str,
    named: str | None,
    kinds: Sequence[IsKind],
) -> str:
    """The one column of the first of several kinds that any column is of, or the one that is named.

    Args:
        flat: see `flat_features`.
        where: the data set, for messages.
        what: what the column holds; `data.<what>_column` is the config's key for its name.
        wanted: the same in the plural, for a message.
        named: its name, where types leave it open.
        kinds: in the order of preference.

    Raises:
        DataError: there is none, or several, or the named one is not there or of another kind.
    """
    if named is not None:
        if named not in flat:
            raise DataError(
                f"data.{what}_column={named}: {where} has no such column; {did_you_mean(named, flat)}"
            )
        if not any(kind(flat[named]) for kind in kinds):
            raise DataError(f"data.{what}_column={named}: {where} holds {flat[named]} there, not {wanted}")
        return named
    for kind in kinds:
        found = [name for name, feature in flat.items() if kind(feature)]
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(
                f"{where} has {len(found)} columns that may be the {what}: {', '.join(found)}; "
                f"choose one, as in data.{what}_column={found[0]}"
            )
    raise DataError(
        f"{where} has no {what} column that its types show; it has: {preview(list(flat))}; "
        f"name it with data.{what}_column="
    )


def column_chunks(table: Any, name: str) -> list[Any]:
    """The chunks of a column of an arrow table, or of a field of a struct column."""
    column, _, field = name.partition(".")
    if name in table.column_names:
        column, field = name, ""
    chunks = table.column(column).chunks
    return [chunk.field(field) for chunk in chunks] if field else chunks


def column_of(rows: Any, name: str) -> Any:
    """A column of a table or record batch, or a field of a struct column: an array or chunked array."""
    import pyarrow.compute

    if name in rows.schema.names:
        return rows.column(name)
    column, _, field = name.partition(".")
    return pyarrow.compute.struct_field(rows.column(column), field)


def is_struct(values: Any) -> bool:
    """Whether an array's values are structs."""
    import pyarrow

    return bool(pyarrow.types.is_struct(values.type))
