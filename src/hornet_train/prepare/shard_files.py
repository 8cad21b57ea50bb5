"""One shard written and read back, in a worker process; each file is whole or absent."""

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
from hornet_train.images.decode import decode, read_bytes
from hornet_train.images.resize import resize
from hornet_train.prepare.watched_workers import Mark
from hornet_train.prepare.shard_formats import Format, open_writer, read_labels
from hornet_train.track.files import sync_folder


@dataclass(frozen=True)
class Encoding:
    """What becomes of an image: its own bytes, or, where its shorter side is longer, a smaller JPEG.

    Attributes:
        shorter_side: in pixels; None leaves all as they are.
        quality: of the JPEG, 1..100.
    """

    shorter_side: int | None
    quality: int

    def apply(self, path: str) -> tuple[bytes, str]:
        """A file's bytes for the shard, and their extension, lower case: `.jpg`.

        Raises:
            SampleError: it cannot be read or decoded.
        """
        data = read_bytes(path, waiting=True)
        image = decode(data, path)  # also where its bytes stay: no damaged file goes into a shard
        height, width = image.shape[1:]
        shorter = min(height, width)
        if self.shorter_side is None or shorter <= self.shorter_side:
            extension = os.path.splitext(path)[1].lower()
            return data, ".jpg" if extension == ".jpeg" else extension
        side = self.shorter_side
        size = (round(height * side / shorter), round(width * side / shorter))
        buffer = io.BytesIO()
        pixels = resize(image, size).permute(1, 2, 0).contiguous().numpy()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=self.quality)
        return buffer.getvalue(), ".jpg"


@dataclass(frozen=True)
class Shard:
    """What a shard is to hold.

    Attributes:
        file: where it goes.
        beside: where it is written before it is whole; on the same file system.
        format: of the file.
        keys: each sample's number in the sorted listing of the split.
        paths: where each sample lies.
        names: the same relative to the split's folder, as text.
        labels: each sample's.
        classes: the class names in label order.
        encoding: what becomes of an image.
    """

    file: str
    beside: str
    format: Format
    keys: tuple[int, ...]
    paths: tuple[str, ...]
    names: tuple[str, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    encoding: Encoding


@dataclass(frozen=True)
class Written:
    """What a shard's file is: its size in bytes, the SHA-256 of what was written."""

    samples: int
    bytes: int
    sha256: str


def write_shard(shard: Shard, mark: Mark) -> Written:
    """Write a shard and put it in its place.

    Raises:
        SampleError: an image that cannot be read or decoded.
        DataError: the file cannot be written.
    """
    torch.set_num_threads(1)  # the parallelism is in the processes
    beside = Path(shard.beside)
    try:
        with beside.open("wb") as file:
            tee = _Hashing(file)
            with open_writer(shard.format, tee, shard.classes) as writer:
                for item, path in enumerate(shard.paths):
                    mark(item)
                    data, extension = shard.encoding.apply(path)
                    writer.add(shard.keys[item], shard.names[item], data, extension, shard.labels[item])
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        os.replace(beside, shard.file)
        sync_folder(Path(shard.file).parent)
    except OSError as error:
        raise DataError(
            f"{shard.file} cannot be written ({error.strerror or error}); finished shards are kept: "
            "put it right and start the same command again"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
    return Written(len(shard.paths), size, tee.hexdigest())


def measure(task: tuple[Encoding, tuple[str, ...]], mark: Mark) -> int:
    """How many bytes images take in a shard, in all.

    Raises:
        SampleError: an image that cannot be read or decoded.
    """
    encoding, paths = task
    total = 0
    for item, path in enumerate(paths):
        mark(item)
        total += len(encoding.apply(path)[0])
    return total


def verify_shard(task: tuple[Shard, Written], mark: Mark) -> str:
    """Read a shard back: size, sum, number of samples, labels.

    Returns:
        What is not as it was written, or ''.
    """
    shard, written = task
    mark(0)
    try:
        with open(shard.file, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size != written.bytes:
                return f"{size:,} bytes, not {written.bytes:,}"
            if hashlib.file_digest(file, "sha256").hexdigest() != written.sha256:
                return "another SHA-256"
        labels = read_labels(shard.format, shard.file)
    except OSError as error:
        return error.strerror or str(error)
    if len(labels) != len(shard.labels):
        return f"{len(labels):,} samples, not {len(shard.labels):,}"
    return "" if tuple(labels) == shard.labels else "other labels"


class _Hashing(io.RawIOBase):
    """A file to write to that sums up what goes through it. It leaves the file open."""

    def __init__(self, file: io.BufferedWriter) -> None:
        self._file = file
        self._sum = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        view = memoryview(data)  # type: ignore[arg-type]  # any buffer
        self._sum.update(view)
        self._file.write(view)
        return view.nbytes

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        if not self._file.closed:
            self._file.flush()

    def hexdigest(self) -> str:
        return self._sum.hexdigest()
