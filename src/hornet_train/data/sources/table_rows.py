"""Rows of a table with random access: its files and its numbers, column by column."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from hornet_train.data.sources.columns import Integers, column_chunks, is_struct
from hornet_train.data.sources.files import read_file
from hornet_train.data.sources.hub import OpenedTable
from hornet_train.data.sources.source import Encoded, Fields
from hornet_train.errors import DataError, SampleError


class TableRows:
    """The rows of an opened table, as the columns that were asked for.

    Nothing goes through the formatting of `datasets`: a row is looked up in the mapped table.

    Attributes:
        numbers: by field, int64 (rows,).
    """

    def __init__(self, table: OpenedTable, *, files: Mapping[str, str], numbers: Mapping[str, str]) -> None:
        """Look the columns up.

        Args:
            table: an opened split.
            files: field -> column of files' contents; the first is the one that `locate` looks at.
            numbers: field -> column of integers.

        Raises:
            DataError: a row has no number.
        """
        self._table = table
        self._columns = dict(files)
        where = f"data.name={table.name}, split {table.split}"
        self.numbers = {
            field: _numbers(table.rows.data.table, column, field, where) for field, column in numbers.items()
        }
        self._map()

    def __len__(self) -> int:
        return len(self._table.rows)

    def read(self, row: int) -> Fields:
        """A row: `Encoded` for files, int for numbers.

        Raises:
            SampleError: a file is missing, cannot be read or lies outside of the data set.
        """
        fields: Fields = {field: self._file(field, row) for field in self._files}
        for field, values in self.numbers.items():
            fields[field] = int(values[row])
        return fields

    def locate(self, row: int) -> str:
        """The row, and the path that its first file has."""
        files = next(iter(self._files.values()))
        return self._described(row, files.path(row))

    def sizes(self, field: str) -> list[np.ndarray[Any, Any] | bytes]:
        """Bytes of each row's file, or the files' names where the rows hold paths; for a fingerprint."""
        return self._files[field].sizes()

    def _described(self, row: int, path: str | None) -> str:
        place = f"{self._table.name}, split {self._table.split}, row {row}"
        return f"{place} ({path})" if path else place

    def _file(self, field: str, row: int) -> Encoded:
        data, path = self._files[field].at(row)
        if data is not None:
            return Encoded(data, self._described(row, path))
        if not path:
            raise SampleError(self._described(row, path), f"the row holds no {field}", "remove it")
        if not self._table.allows(path):
            raise SampleError(
                self._described(row, path),
                "the row names a file outside of the data set",
                "keep the images' bytes in the rows (hornet-data pack)",
            )
        return read_file(path)

    def _map(self) -> None:
        self._files = {
            field: _FileColumn(self._table.rows.data.table, column) for field, column in self._columns.items()
        }

    def __getstate__(self) -> dict[str, Any]:
        """To a worker go the names of the mapped files, not what they hold."""
        return {name: value for name, value in self.__dict__.items() if name != "_files"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._map()


class _FileColumn:
    """A column of files, its chunks looked up once and not for each row."""

    def __init__(self, table: Any, column: str) -> None:
        chunks = column_chunks(table, column)
        struct = bool(chunks) and is_struct(chunks[0])
        self._bytes = [chunk.field("bytes") if struct else chunk for chunk in chunks]
        self._paths = [chunk.field("path") if struct else None for chunk in chunks]
        self._ends = np.cumsum([len(chunk) for chunk in chunks])

    def at(self, row: int) -> tuple[bytes | None, str | None]:
        """(content, path) as far as the row has them."""
        chunk, place = self._place(row)
        return self._bytes[chunk][place].as_py(), self._path(chunk, place)

    def path(self, row: int) -> str | None:
        return self._path(*self._place(row))

    def _place(self, row: int) -> tuple[int, int]:
        """(chunk, row in it)."""
        chunk = int(np.searchsorted(self._ends, row, side="right"))
        return chunk, row - (int(self._ends[chunk - 1]) if chunk else 0)

    def _path(self, chunk: int, place: int) -> str | None:
        paths = self._paths[chunk]
        return None if paths is None else paths[place].as_py()

    def sizes(self) -> list[np.ndarray[Any, Any] | bytes]:
        """See `TableRows.sizes`, chunk by chunk."""
        return [_sizes(chunk, paths) for chunk, paths in zip(self._bytes, self._paths, strict=True)]


def _sizes(encoded: Any, paths: Any) -> np.ndarray[Any, Any] | bytes:
    """Bytes of each file of a chunk, from the offsets alone, or the file names where there are no bytes."""
    import pyarrow.compute

    if paths is not None and encoded.null_count:
        names = [os.path.basename(path or "") for path in paths.to_pylist()]
        return repr(names).encode()
    lengths = pyarrow.compute.binary_length(encoded).fill_null(0)
    sizes: Integers = lengths.to_numpy(zero_copy_only=False).astype(np.int64)
    return sizes


def _numbers(table: Any, column: str, field: str, where: str) -> Integers:
    """int64 (rows,). Raises DataError where one is missing."""
    parts = [np.empty(0, dtype=np.int64)]
    for chunk in column_chunks(table, column):
        if chunk.null_count:
            raise DataError(f"{where}: {chunk.null_count} rows have no {field}; remove them")
        parts.append(chunk.to_numpy(zero_copy_only=False).astype(np.int64))
    return np.concatenate(parts)
