"""Shards that are tables: parquet, near or far, and arrow files."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import accumulate
from typing import Any

import numpy as np

from hornet_train.data.sources.columns import Columns, class_names, find_columns
from hornet_train.data.sources.hub_errors import shard_told
from hornet_train.data.sources.index import read_index
from hornet_train.data.sources.shards import Encoded
from hornet_train.data.sources.source import sha256_of
from hornet_train.errors import DataError

_FOOTER_THREADS = 16  # each waits for a network
_ROWS = 32  # of a batch read from parquet: images in memory at once


class _Tables(ABC):
    """What parquet and arrow shards have in common.

    Attributes:
        classes: class names in label order.
        lengths: rows of each shard.
        fingerprint: of the shards' names, sizes and lengths, and the class names.
    """

    def __init__(
        self,
        paths: Sequence[str],
        split: str,
        *,
        image_column: str | None = None,
        label_column: str | None = None,
        classes: Sequence[str] | None = None,
        features: Any = None,
    ) -> None:
        """Count rows, find columns.

        Args:
            paths: of the shards, in order.
            split: for messages and the name of the index.json.
            image_column: where types do not tell it.
            label_column: likewise.
            classes: of the training split, for labels that are stored as plain numbers without names.
            features: `datasets.Features`, where known better than from the first shard.

        Raises:
            DataError: a shard cannot be read or is unlike the first or the index.json, or columns or labels
                are not as needed.
        """
        import datasets

        self._paths = tuple(paths)
        index = read_index(self._paths, split)
        with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
            heads = list(pool.map(self._head, self._paths))
        self.lengths = tuple(rows for rows, _, _ in heads)
        for path, (rows, size, _) in zip(self._paths, heads, strict=True):
            if size is not None and rows > size:  # equal labels pack to nothing, images do not
                raise DataError(f"{path}: is to hold {rows:,} images in {size:,} bytes; fetch it again")
        if index is not None:
            index.check(self._paths, self.lengths)
        first = heads[0][2]
        where = f"split {split} ({os.path.basename(self._paths[0])}, ...)"
        features = features or datasets.Features.from_arrow_schema(first)
        self._columns = find_columns(features, where, image=image_column, label=label_column)
        needed = {name.partition(".")[0] if name not in first.names else name for name in self._wanted}
        for path, (_, _, schema) in zip(self._paths, heads, strict=True):
            if absent := needed - set(schema.names):
                raise DataError(
                    f"{path} has no column {', '.join(sorted(absent))}, unlike {self._paths[0]}; remove one"
                )
        names = self._columns.names
        if names is None and index is not None:
            names = index.classes
        if names is None:
            with ThreadPoolExecutor(_FOOTER_THREADS) as pool:
                distinct = np.concatenate(list(pool.map(self._distinct_labels, self._paths)))
            names = class_names(distinct, where, names=None, given=classes)
        self.classes = tuple(names)
        sizes = [size for _, size, _ in heads]
        files = [os.path.basename(path) for path in self._paths]
        self.fingerprint = sha256_of(repr((files, sizes, self.lengths, self.classes, self._columns)).encode())

    @property
    def _wanted(self) -> tuple[str, str]:
        return self._columns.image, self._columns.label

    def read(self, shard: int, start: int) -> Iterator[Encoded]:
        """See `Shards`."""
        path = self._paths[shard]
        with shard_told(path, of_one_rank=True):
            for first, batch in self._batches(path, start):
                yield from _encoded(
                    batch, first, max(0, start - first), self._columns, path, len(self.classes)
                )

    @abstractmethod
    def _head(self, path: str) -> tuple[int, int, Any]:
        """(rows, bytes of the file, arrow schema) of a shard."""

    @abstractmethod
    def _batches(self, path: str, start: int) -> Iterable[tuple[int, Any]]:
        """(its first row, record batch) of those batches that reach beyond row `start`."""

    @abstractmethod
    def _distinct_labels(self, path: str) -> np.ndarray[Any, np.dtype[np.int64]]: ...


class ParquetShards(_Tables):
    """Parquet files on the disk, the hub (`hf://`) or any file system of fsspec."""

    def _head(self, path: str) -> tuple[int, int, Any]:
        with shard_told(path), _parquet(path) as (file, size):
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

    def _distinct_labels(self, path: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        with shard_told(path), _parquet(path) as (file, _):
            return _distinct(file.read(columns=[self._columns.label]), self._columns.label, path)


class ArrowShards(_Tables):
    """Arrow files, in the stream format (as `datasets` writes it) or the file format, mapped into memory."""

    def _head(self, path: str) -> tuple[int, int, Any]:
        with shard_told(path):
            table = _arrow(path)
            return len(table), os.path.getsize(path), table.schema

    def _batches(self, path: str, start: int) -> Iterator[tuple[int, Any]]:
        first = 0
        for batch in _arrow(path).to_batches():
            if first + len(batch) > start:
                yield first, batch
            first += len(batch)

    def _distinct_labels(self, path: str) -> np.ndarray[Any, np.dtype[np.int64]]:
        with shard_told(path):
            return _distinct(_arrow(path), self._columns.label, path)


@contextmanager
def _parquet(path: str) -> Iterator[tuple[Any, int]]:
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


def _field(columns: Any, name: str) -> Any:
    """A column of a table or batch, or a field of one: an array or chunked array."""
    import pyarrow.compute

    if name in columns.schema.names:
        return columns.column(name)
    column, _, field = name.partition(".")
    return pyarrow.compute.struct_field(columns.column(column), field)


def _distinct(table: Any, column: str, path: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    labels = _field(table, column)
    if labels.null_count:
        raise DataError(f"{path}: {labels.null_count} rows have no label; remove them")
    return np.unique(labels.to_numpy().astype(np.int64))


def _encoded(
    batch: Any, first: int, start: int, columns: Columns, path: str, classes: int
) -> Iterator[Encoded]:
    """The samples of a batch from its `start`-th on; `first` is the number of its first row in the shard."""
    import pyarrow

    images, labels = _field(batch, columns.image), _field(batch, columns.label)
    struct = pyarrow.types.is_struct(images.type)
    for at in range(start, len(batch)):
        where = f"{path}, row {first + at}"
        label = labels[at].as_py()
        if label is None or not 0 <= label < classes:
            raise DataError(f"{where}: label {label} is not one of the {classes} classes, from 0 on")
        value = images[at].as_py()
        data, file = (value["bytes"], value.get("path")) if struct and value is not None else (value, None)
        if data is None and file:
            raise DataError(
                f"{where}: holds the path {file} in place of an image; streaming reads images that lie in "
                "the shards themselves: data.streaming=false, or hornet-data pack"
            )
        yield Encoded(data or b"", label, f"{where} ({file})" if file else where)
