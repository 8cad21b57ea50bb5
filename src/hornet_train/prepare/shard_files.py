"""Write a shard and read it back, in a worker process. A shard file is either complete or absent."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from hornet_train.errors import DataError
from hornet_train.images.decode import decode_with_orientation, read_bytes
from hornet_train.images.formats import FORMATS
from hornet_train.images.orientation import UPRIGHT, exif_of
from hornet_train.images.resize import resize
from hornet_train.prepare.shard_formats import Format, open_writer, read_values
from hornet_train.prepare.watched_workers import BeginItem
from hornet_train.tasks.stored_files import StoredField, Value
from hornet_train.track.durable_files import sync_folder


@dataclass(frozen=True)
class Encoding:
    """How an image is stored: as its own bytes, or as a smaller JPEG if its shorter side is too long.

    Attributes:
        shorter_side: the greatest that is stored unchanged, in pixels; None stores all images unchanged.
        quality: of the smaller JPEGs, 1..100.
    """

    shorter_side: int | None
    quality: int

    def encode(self, path: str) -> tuple[bytes, str]:
        """The bytes of a file as stored in a shard, and their extension in lower case: `.jpg`.

        Raises:
            SampleError: the file cannot be read or decoded.
        """
        data = read_bytes(path, waiting=True)
        # also if its bytes are stored unchanged: no damaged file goes into a shard
        image_CHW, orientation = decode_with_orientation(data, path)
        height, width = image_CHW.shape[1:]
        shorter = min(height, width)
        if self.shorter_side is None or shorter <= self.shorter_side:
            extension = os.path.splitext(path)[1].lower()
            return data, ".jpg" if extension in FORMATS["JPEG"] else extension
        side = self.shorter_side
        size = (round(height * side / shorter), round(width * side / shorter))
        buffer = io.BytesIO()
        pixels_HWC = resize(image_CHW, size).permute(1, 2, 0).contiguous().numpy()
        exif = exif_of(orientation) if orientation != UPRIGHT else b""  # kept, for data.exif=apply
        Image.fromarray(pixels_HWC).save(buffer, "JPEG", quality=self.quality, exif=exif)
        return buffer.getvalue(), ".jpg"


@dataclass(frozen=True)
class Shard:
    """A shard to be written.

    Attributes:
        file: the path of the finished shard.
        partial_file: the path while it is written; on the same file system.
        format: of the file.
        keys: each sample's number in the sorted listing of the split.
        paths: the path of each image file.
        names: these paths relative to the split's folder, as text.
        fields: what a sample holds beside its image.
        values: of each sample, in the order of `fields`.
        encoding: how images are stored.
    """

    file: str
    partial_file: str
    format: Format
    keys: tuple[int, ...]
    paths: tuple[str, ...]
    names: tuple[str, ...]
    fields: tuple[StoredField, ...]
    values: tuple[tuple[Value, ...], ...]
    encoding: Encoding


@dataclass(frozen=True)
class WrittenShard:
    """The record of a finished shard: number of samples, size of the file in bytes, its SHA-256."""

    samples: int
    bytes: int
    sha256: str


def write_shard(shard: Shard, begin_item: BeginItem) -> WrittenShard:
    """Write a shard to its partial file, then rename that.

    Raises:
        SampleError: an image that cannot be read or decoded.
        DataError: the file cannot be written.
    """
    torch.set_num_threads(1)  # the parallelism is in the processes
    partial_file = Path(shard.partial_file)
    try:
        with partial_file.open("wb") as file:
            hashing_file = _HashingWriter(file)
            with open_writer(shard.format, hashing_file, shard.fields) as writer:
                for item, path in enumerate(shard.paths):
                    begin_item(item)
                    data, extension = shard.encoding.encode(path)
                    writer.add(shard.keys[item], shard.names[item], data, extension, shard.values[item])
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        os.replace(partial_file, shard.file)
        sync_folder(Path(shard.file).parent)
    except OSError as error:
        raise DataError(
            f"{shard.file} cannot be written ({error.strerror or error}); finished shards are kept: "
            "fix the cause and start the same command again"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial_file.unlink(missing_ok=True)
    return WrittenShard(len(shard.paths), size, hashing_file.hexdigest())


def measure_images(task: tuple[Encoding, tuple[str, ...]], begin_item: BeginItem) -> int:
    """The total size of images as stored in a shard, in bytes.

    Raises:
        SampleError: an image that cannot be read or decoded.
    """
    encoding, paths = task
    total = 0
    for item, path in enumerate(paths):
        begin_item(item)
        total += len(encoding.encode(path)[0])
    return total


def verify_shard(task: tuple[Shard, WrittenShard], begin_item: BeginItem) -> str:
    """Read a shard back and compare size, SHA-256, number of samples and their fields with what was written.

    Returns:
        What differs, or ''.
    """
    shard, written = task
    begin_item(0)
    try:
        with open(shard.file, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != written.bytes:
                return f"{size:,} bytes, not {written.bytes:,}"
            if hashlib.file_digest(file, "sha256").hexdigest() != written.sha256:
                return "another SHA-256"
        values = read_values(shard.format, shard.file, shard.fields)
    except OSError as error:
        return error.strerror or str(error)
    if len(values) != len(shard.values):
        return f"{len(values):,} samples, not {len(shard.values):,}"
    for found, expected in zip(values, shard.values, strict=True):
        for one, value, right in zip(shard.fields, found, expected, strict=True):
            if value != right:
                return f"another {one.name}"
    return ""


class _HashingWriter(io.RawIOBase):
    """A writable file that hashes what is written and passes it on to another file, which stays open."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]  # any buffer
        self._sha256.update(view)
        self._file.write(view)
        return view.nbytes

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        if not self._file.closed:
            self._file.flush()

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()
