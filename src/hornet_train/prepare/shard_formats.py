"""The two file formats of shards: parquet as Hugging Face's `datasets` writes it, and webdataset's tar."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import pyarrow as pa

Format = Literal["parquet", "webdataset"]

EXTENSIONS: dict[Format, str] = {"parquet": "parquet", "webdataset": "tar"}
ROW_GROUP = 100  # rows; to get one image, a reader has to read no more than one row group


class Writer(Protocol):
    """Writes the samples of one shard, in order."""

    def add(self, key: int, name: str, data: bytes, extension: str, label: int) -> None:
        """Write one sample.

        Args:
            key: its number in the sorted listing of the split.
            name: its path in the split, for people to read.
            data: the bytes of an image file.
            extension: of such a file: `.jpg`.
            label: its class.
        """


@contextmanager
def open_writer(kind: Format, file: io.RawIOBase, classes: Sequence[str]) -> Iterator[Writer]:
    """A writer to `file`; leaving the block completes the shard, leaving it by an error leaves it incomplete.

    Raises:
        OSError: the file cannot be written.
    """
    writer = _ParquetWriter(file, classes) if kind == "parquet" else _TarWriter(file)
    yield writer
    writer.finish()


def read_labels(kind: Format, path: str) -> list[int]:
    """The labels of a shard in order; in a tar, this also checks that each sample has an image.

    Raises:
        OSError: the file cannot be read, or is not a shard.
    """
    return _parquet_labels(path) if kind == "parquet" else _tar_labels(path)


def parquet_schema(classes: Sequence[str]) -> pa.Schema:
    """Columns `image` {bytes, path} and `label`; the metadata has the features Image and ClassLabel."""
    import pyarrow as pa

    features = {"image": {"_type": "Image"}, "label": {"names": list(classes), "_type": "ClassLabel"}}
    return pa.schema(
        {"image": pa.struct({"bytes": pa.binary(), "path": pa.string()}), "label": pa.int64()},
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )


class _ParquetWriter:
    def __init__(self, file: io.RawIOBase, classes: Sequence[str]) -> None:
        import pyarrow.parquet as pq

        self._schema = parquet_schema(classes)
        # images are compressed already; statistics over their bytes would double the footer
        self._writer: Any = pq.ParquetWriter(
            file, self._schema, compression="none", use_dictionary=False, write_statistics=["label"]
        )
        self._rows: list[dict[str, Any]] = []

    def add(self, key: int, name: str, data: bytes, extension: str, label: int) -> None:  # noqa: ARG002
        self._rows.append({"image": {"bytes": data, "path": name}, "label": label})
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
    """Writes KEY.jpg and KEY.cls, the label in decimal digits.

    Without dates and owners, equal samples give equal bytes.
    """

    def __init__(self, file: io.RawIOBase) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def add(self, key: int, name: str, data: bytes, extension: str, label: int) -> None:  # noqa: ARG002
        for suffix, content in ((extension, data), (".cls", b"%d" % label)):
            member = tarfile.TarInfo(f"{key:09d}{suffix}")
            member.size = len(content)
            self._tar.addfile(member, io.BytesIO(content))

    def finish(self) -> None:
        self._tar.close()


def _parquet_labels(path: str) -> list[int]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["label"])
    except pa.ArrowInvalid as error:
        raise OSError(f"not a parquet file ({error})") from error
    labels: list[int] = table.column("label").to_pylist()
    return labels


def _tar_labels(path: str) -> list[int]:
    labels, image = [], ""
    try:
        with tarfile.open(path, mode="r:") as tar:
            for member in tar:
                key, suffix = member.name.split(".", 1)
                if suffix != "cls":
                    image = key
                    continue
                content = tar.extractfile(member)
                if content is None or image != key:
                    raise OSError(f"{member.name} follows no image of its key")
                labels.append(int(content.read()))
    except (tarfile.TarError, ValueError) as error:
        raise OSError(f"not a tar file of samples ({error})") from error
    return labels
