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


def is_scalar(feature: Any) -> bool:
    """Whether a feature is one number, text, truth value or date in each row."""
    import datasets

    return isinstance(feature, datasets.Value) and feature.dtype not in ("binary", "large_binary", "null")


def kind_name(feature: Any) -> str:
    """What a feature holds, for messages: `int64`, `lists of images`."""
    import datasets

    if isinstance(feature, datasets.Value):
        return "no values" if feature.dtype == "null" else str(feature.dtype)
    if isinstance(feature, datasets.ClassLabel):
        return "class labels"
    if is_image(feature):
        return "images"
    if isinstance(feature, datasets.List | datasets.LargeList):
        return f"lists of {kind_name(feature.feature)}"
    if isinstance(feature, dict):
        return f"structs of {', '.join(feature)}"
    return type(feature).__name__


def with_kinds(flat: Mapping[str, Any]) -> str:
    """The first columns with what they hold, for messages."""
    return preview([f"{name} ({kind_name(feature)})" for name, feature in flat.items()])


def check_column(
    named: str, flat: Mapping[str, Any], where: str, *, what: str, wanted: str, kinds: Sequence[IsKind]
) -> None:
    """Raises DataError where a column that the config names is not there or of none of these kinds."""
    if named not in flat:
        raise DataError(
            f"data.{what}_column={named}: {where} has no such column; {did_you_mean(named, flat)}"
        )
    if not any(kind(flat[named]) for kind in kinds):
        raise DataError(
            f"data.{what}_column={named}: {where} holds {kind_name(flat[named])} there, not {wanted}"
        )


def only_column(found: Sequence[str], where: str, *, what: str) -> str | None:
    """The one column of several that may be meant; None of none. Raises DataError where there are more."""
    if len(found) > 1:
        choices = " or ".join(f"data.{what}_column={name}" for name in found[:5])
        raise DataError(
            f"{where} has {len(found)} columns that may be the {what}: {', '.join(found)}; choose one, as in "
            f"{choices}"
        )
    return found[0] if found else None


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
