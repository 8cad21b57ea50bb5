"""The two file formats of shards: parquet as Hugging Face's `datasets` writes it, and webdataset's tar."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol

from hornet_train.tasks.stored_files import StoredField, Value

if TYPE_CHECKING:
    import pyarrow as pa

Format = Literal["parquet", "webdataset"]

EXTENSIONS: dict[Format, str] = {"parquet": "parquet", "webdataset": "tar"}
ROW_GROUP = 100  # rows; to get one image, a reader has to read no more than one row group


class Writer(Protocol):
    """Writes the samples of one shard, in order."""

    def add(self, key: int, name: str, data: bytes, extension: str, values: Sequence[Value]) -> None:
        """Write one sample.

        Args:
            key: its number in the sorted listing of the split.
            name: its path in the split, for people to read.
            data: the bytes of an image file.
            extension: of such a file: `.jpg`.
            values: of its fields, in their order.
        """


@contextmanager
def open_writer(kind: Format, file: io.RawIOBase, fields: Sequence[StoredField]) -> Iterator[Writer]:
    """A writer to `file`; leaving the block completes the shard, leaving it by an error leaves it incomplete.

    Raises:
        OSError: the file cannot be written.
    """
    writer = _ParquetWriter(file, fields) if kind == "parquet" else _TarWriter(file, fields)
    yield writer
    writer.finish()


def read_values(kind: Format, path: str, fields: Sequence[StoredField]) -> list[tuple[Value, ...]]:
    """The fields of the samples of a shard in order; in a tar, this also checks that each has an image.

    Raises:
        OSError: the file cannot be read, or is not a shard.
    """
    return _parquet_values(path, fields) if kind == "parquet" else _tar_values(path, fields)


def parquet_schema(fields: Sequence[StoredField]) -> pa.Schema:
    """Columns `image` {bytes, path} and the fields'; the metadata has what `datasets` calls features."""
    import pyarrow as pa

    kinds = {"int": pa.int64(), "text": pa.string(), "bytes": pa.binary()}
    features = {"image": {"_type": "Image"}, **{one.name: dict(one.feature) for one in fields}}
    return pa.schema(
        {
            "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
            **{one.name: kinds[one.kind] for one in fields},
        },
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )


class _ParquetWriter:
    def __init__(self, file: io.RawIOBase, fields: Sequence[StoredField]) -> None:
        import pyarrow.parquet as pq

        self._fields, self._schema = fields, parquet_schema(fields)
        # images are compressed already; statistics over their bytes would double the footer
        self._writer: Any = pq.ParquetWriter(
            file,
            self._schema,
            compression="none",
            use_dictionary=False,
            write_statistics=[one.name for one in fields if one.kind == "int"],
        )
        self._rows: list[dict[str, Any]] = []

    def add(self, key: int, name: str, data: bytes, extension: str, values: Sequence[Value]) -> None:  # noqa: ARG002
        columns = {one.name: value for one, value in zip(self._fields, values, strict=True)}
        self._rows.append({"image": {"bytes": data, "path": name}, **columns})
        if len(self._rows) == ROW_GROUP:
            self._flush()

    def finish(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


class _TarWriter:
    """Writes KEY.jpg, and a file for each field, such as KEY.cls.

    Without dates and owners, equal samples give equal bytes.
    """

    def __init__(self, file: io.RawIOBase, fields: Sequence[StoredField]) -> None:
        self._fields = fields
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def add(self, key: int, name: str, data: bytes, extension: str, values: Sequence[Value]) -> None:  # noqa: ARG002
        contents = [one.encode(value) for one, value in zip(self._fields, values, strict=True)]
        suffixes = [one.suffix for one in self._fields]
        for suffix, content in zip([extension, *suffixes], [data, *contents], strict=True):
            member = tarfile.TarInfo(f"{key:09d}{suffix}")
            member.size = len(content)
            self._tar.addfile(member, io.BytesIO(content))

    def finish(self) -> None:
        self._tar.close()


def _parquet_values(path: str, fields: Sequence[StoredField]) -> list[tuple[Value, ...]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [one.name for one in fields]
    try:
        with open(path, "rb") as file:  # pyarrow opens no path that is not UTF-8
            table = pq.read_table(file, columns=names or ["image.path"])
    except pa.ArrowInvalid as error:
        raise OSError(f"not a parquet file ({error})") from error
    columns = [table.column(name).to_pylist() for name in names]
    return list(zip(*columns, strict=True)) if columns else [()] * table.num_rows


def _tar_values(path: str, fields: Sequence[StoredField]) -> list[tuple[Value, ...]]:
    by_suffix = {one.suffix.removeprefix("."): position for position, one in enumerate(fields)}
    samples: list[list[Value | None]] = []
    image = ""
    try:
        with tarfile.open(path, mode="r:") as tar:
            for member in tar:
                key, suffix = member.name.split(".", 1)
                if suffix not in by_suffix:
                    image = key
                    samples.append([None] * len(fields))
                    continue
                content = tar.extractfile(member)
                if content is None or image != key:
                    raise OSError(f"{member.name} follows no image of its key")
                position = by_suffix[suffix]
                samples[-1][position] = fields[position].decode(content.read())
    except (tarfile.TarError, ValueError) as error:
        raise OSError(f"not a tar file of samples ({error})") from error
    complete = [tuple(value for value in sample if value is not None) for sample in samples]
    if any(len(values) != len(fields) for values in complete):
        raise OSError("not a tar file of samples (an image without its fields)")
    return complete
