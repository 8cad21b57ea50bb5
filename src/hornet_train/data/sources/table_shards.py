"""Shards that are tables, read from front to back: parquet, near or far, and arrow files."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

from hornet_train.data.sources.column_values import ColumnValues, column_values, united
from hornet_train.data.sources.columns import column_of, is_struct
from hornet_train.data.sources.source import Encoded, Fields
from hornet_train.data.sources.storage_errors import file_errors
from hornet_train.errors import DataError

_FOOTER_THREADS = 16  # each waits for a network
_ROWS = 32  # of a batch read from parquet: images in memory at once


class TableShards(ABC):
    """What parquet and arrow shards have in common.

    Attributes:
        paths: of the shards.
        lengths: rows of each shard.
        sizes: bytes of each shard, None where a server does not say.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        """Count rows.

        Args:
            paths: of the shards, in order.

        Raises:
            DataError: a shard cannot be read.
        """
        self.paths = tuple(paths)
        with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
            heads = list(pool.map(self._head, self.paths))
        self.lengths = tuple(rows for rows, _, _ in heads)
        self.sizes = [size for _, size, _ in heads]
        for path, rows, size in zip(self.paths, self.lengths, self.sizes, strict=True):
            if size is not None and rows > size:  # equal labels pack to nothing, images do not
                raise DataError(f"{path}: is to hold {rows:,} images in {size:,} bytes; fetch it again")
        self._names = [tuple(schema.names) for _, _, schema in heads]
        self._schema = heads[0][2]
        self._files: dict[str, str] = {}
        self._numbers: dict[str, str] = {}

    @property
    def features(self) -> Any:
        """`datasets.Features` as the first shard has them."""
        import datasets

        return datasets.Features.from_arrow_schema(self._schema)

    def choose(self, *, files: Mapping[str, str], numbers: Mapping[str, str]) -> None:
        """Say which columns `read` gives.

        Args:
            files: field -> column of files' contents.
            numbers: field -> column of numbers, or of text.

        Raises:
            DataError: another shard than the first lacks one of them.
        """
        self._files, self._numbers = dict(files), dict(numbers)
        first = self._names[0]
        needed = {name.partition(".")[0] if name not in first else name for name in self._wanted}
        for path, names in zip(self.paths, self._names, strict=True):
            if absent := needed - set(names):
                raise DataError(
                    f"{path} has no column {', '.join(sorted(absent))}, unlike {self.paths[0]}; remove one"
                )

    def occurring(self, column: str) -> ColumnValues:
        """What occurs in a column, over all shards.

        Raises:
            DataError: a shard cannot be read, or has not this column, or has text where others have numbers.
        """

        def of_one(path: str, names: tuple[str, ...]) -> ColumnValues:
            if column not in names and column.partition(".")[0] not in names:
                raise DataError(f"{path} has no column {column}, unlike {self.paths[0]}; remove one")
            with file_errors(path):
                return column_values(column_of(self._column(path, column), column))

        with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
            found = list(pool.map(of_one, self.paths, self._names))
        return united(found, f"column {column} of {self.paths[0]}, ...")

    def describe(self, shard: int, row: int) -> str:
        """Where a row lies, for messages."""
        return f"{self.paths[shard]}, row {row}"

    def read(self, shard: int, start: int) -> Iterator[Fields]:
        """See `Shards`; a value that a row does not have is None."""
        with file_errors(self.paths[shard], of_one_rank=True):
            for first, batch in self._batches(self.paths[shard], start):
                yield from self._rows(batch, shard, first, max(0, start - first))

    def _rows(self, batch: Any, shard: int, first: int, start: int) -> Iterator[Fields]:
        """The rows of a batch from its `start`-th on; `first` is the number of its first row in the shard."""
        files = {field: column_of(batch, column) for field, column in self._files.items()}
        structs = {field: is_struct(column) for field, column in files.items()}
        numbers = {field: column_of(batch, column) for field, column in self._numbers.items()}
        for at in range(start, len(batch)):
            where = self.describe(shard, first + at)
            fields: Fields = {
                field: _file(column[at].as_py(), structs[field], where) for field, column in files.items()
            }
            fields |= {field: column[at].as_py() for field, column in numbers.items()}
            yield fields

    @property
    def _wanted(self) -> tuple[str, ...]:
        return *self._files.values(), *self._numbers.values()

    @abstractmethod
    def _head(self, path: str) -> tuple[int, int | None, Any]:
        """(rows, bytes of the file, arrow schema) of a shard."""

    @abstractmethod
    def _batches(self, path: str, start: int) -> Iterable[tuple[int, Any]]:
        """(its first row, record batch) of those batches that reach beyond row `start`."""

    @abstractmethod
    def _column(self, path: str, column: str) -> Any:
        """An arrow table that has at least this column of a shard."""


class ParquetShards(TableShards):
    """Parquet files on the disk, the hub (`hf://`) or any file system of fsspec."""

    def _head(self, path: str) -> tuple[int, int | None, Any]:
        with file_errors(path), _parquet(path) as (file, size):
            return file.metadata.num_rows, size, file.schema_arrow

    def _batches(self, path: str, start: int) -> Iterator[tuple[int, Any]]:
        with _parquet(path) as (file, _):
            groups = [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)]
            ends = list(accumulate(groups))
            chosen = [k for k, end in enumerate(ends) if end > start]
            first = ends[chosen[0]] - groups[chosen[0]] if chosen else 0
            for batch in file.iter_batches(
                _ROWS, row_groups=chosen, columns=list(self._wanted), use_threads=False
            ):
                if first + len(batch) > start:
                    yield first, batch
                first += len(batch)

    def _column(self, path: str, column: str) -> Any:
        with _parquet(path) as (file, _):
            return file.read(columns=[column])


class ArrowShards(TableShards):
    """Arrow files, in the stream format (as `datasets` writes it) or the file format, mapped into memory."""

    def _head(self, path: str) -> tuple[int, int | None, Any]:
        with file_errors(path):
            table = _arrow(path)
            return len(table), os.path.getsize(path), table.schema

    def _batches(self, path: str, start: int) -> Iterator[tuple[int, Any]]:
        first = 0
        for batch in _arrow(path).to_batches():
            if first + len(batch) > start:
                yield first, batch
            first += len(batch)

    def _column(self, path: str, column: str) -> Any:  # noqa: ARG002 - a mapped table costs nothing
        return _arrow(path)


@contextmanager
def _parquet(path: str) -> Iterator[tuple[Any, int | None]]:
    """(`pyarrow.parquet.ParquetFile`, its bytes) through fsspec."""
    import fsspec
    import pyarrow.parquet

    filesystem, place = fsspec.core.url_to_fs(path)
    with filesystem.open(place, "rb") as opened:
        yield pyarrow.parquet.ParquetFile(opened), filesystem.size(place)


def _arrow(path: str) -> Any:
    """A table on the mapped file."""
    import pyarrow.ipc

    source = pyarrow.memory_map(path)
    if source.read(6) == b"ARROW1":
        return pyarrow.ipc.open_file(source).read_all()
    source.seek(0)
    return pyarrow.ipc.open_stream(source).read_all()


def _file(value: Any, struct: bool, where: str) -> Encoded:
    """The file of a row; empty where there is none, which is bad when it is decoded.

    Args:
        value: bytes, or with `struct` {bytes, path}; None where the row has neither.

    Raises:
        DataError: there is a path in place of the bytes.
    """
    data, path = value, None
    if struct and value is not None:
        data, path = value["bytes"], value.get("path")
    if data is None and path:
        raise DataError(
            f"{where}: holds the path {path} in place of an image; streaming reads images that lie in "
            "the shards themselves: data.streaming=false, or hornet-data pack"
        )
    return Encoded(data or b"", f"{where} ({path})" if path else where)
