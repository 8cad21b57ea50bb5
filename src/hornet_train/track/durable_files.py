"""Atomic and append-only files. An atomic one is written under a temporary name, synced, then renamed."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections import deque
from pathlib import Path
from typing import IO, Any

from hornet_train.file_names import as_text_tree
from hornet_train.untrusted import MAX_JSON, open_nofollow, parse_json, read_within

CHUNK_BYTES = 64 << 20
_log = logging.getLogger("hornet_train")


class DiskProgress:
    """How much this process has read and written, so that a slow disk is not taken for a hang.

    Attributes:
        chunks: number of chunks of files, each of at most `CHUNK_BYTES`.
    """

    chunks = 0


DISK_PROGRESS = DiskProgress()


class AppendOnlyFile:
    """A file to which complete records are appended, each written at once: a killed process loses none.

    A full or read-only disk loses none either: records that it refuses stay in memory, in order, and are
    written as soon as a later record can be. The records of a day's training are a few megabytes.
    """

    def __init__(self, path: str | Path) -> None:
        """Open `path` at its end; create it if it is missing. Raises OSError."""
        self.path = Path(path)
        self._waiting: deque[bytes] = deque()
        self._file: IO[bytes] | None = open_nofollow(self.path, "ab", buffering=0)
        self._size = self.path.stat().st_size  # of the complete records in it
        self._refused = False

    def append(self, record: bytes) -> None:
        """Write a record after those that wait; warns when the disk begins to refuse them."""
        self._waiting.append(record)
        try:
            self._write()
        except OSError as error:
            self._close_file()
            if not self._refused:
                _log.warning(
                    "%s cannot be written (%s): its new lines are kept in memory until it can",
                    self.path,
                    error.strerror,
                )
            self._refused = True
        else:
            if self._refused:
                _log.warning("%s is written again, and nothing is missing in it", self.path)
            self._refused = False

    def close(self) -> None:
        """Write the records that wait, if possible, and close the file; may be called twice."""
        with contextlib.suppress(OSError):
            self._write()
        if self._waiting:
            _log.warning("%s lacks its last %d record(s)", self.path, len(self._waiting))
            self._waiting.clear()
        self._close_file()

    def _write(self) -> None:
        if not self._waiting:
            return
        if self._file is None:
            self._file = open_nofollow(self.path, "ab", buffering=0)
            self._size = min(self._size, os.fstat(self._file.fileno()).st_size)
            self._file.truncate(self._size)  # removes an incomplete record, which the disk refused half-way
        while self._waiting:
            rest = memoryview(self._waiting[0])
            while rest:
                rest = rest[self._file.write(rest) :]
            self._size += len(self._waiting.popleft())

    def _close_file(self) -> None:
        """Close the file. The next try opens it again: its file system may have been mounted again."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # a write that failed was reported already
                file.close()


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` atomically: a kill or a power cut leaves the old file or the new one.

    Raises:
        OSError: from the file system; the old file is then unchanged.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # left by a killed process with the same number; or a link
        write_through(temporary, data)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_through(path: str | Path, data: bytes) -> None:
    """Write a new file `path` and flush it to the disk. A kill may leave a part of it.

    It is written in chunks, each counted in `DISK_PROGRESS` when it is on the disk.

    Raises:
        OSError: from the file system, with the file's name.
    """
    try:
        with open(path, "xb", buffering=0) as file:  # creates the file, so it does not follow a link
            left = memoryview(data)
            while left:
                left = left[file.write(left[:CHUNK_BYTES]) :]
                os.fsync(file.fileno())
                DISK_PROGRESS.chunks += 1
    except OSError as error:
        error.filename = str(path)  # errors of write and fsync have no name
        raise


def remove_temporary_files(path: Path) -> None:
    """Remove the temporary files that killed writers of `path` left (`write_bytes`). No process may be
    writing it now."""
    for temporary in path.parent.glob(f".{path.name}.*.tmp"):
        try:
            temporary.unlink()
        except OSError as error:
            _log.warning("%s cannot be removed (%s)", temporary, error.strerror)


def write_text(path: str | Path, text: str) -> None:
    """`write_bytes` of a text in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, obj: Any) -> None:
    """Write `obj` atomically as indented, strict JSON; names of files as `as_text` has them.

    Raises:
        ValueError: `obj` contains NaN or infinity, which JSON does not have.
        TypeError: `obj` contains a type that JSON does not have, a tensor for one.
        OSError: from the file system.
    """
    write_text(path, json.dumps(as_text_tree(obj), indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """The content of a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read, or is not a regular file.
        ValueError: it is not JSON in UTF-8, or exceeds a limit; the message has the file's name.
    """
    try:
        return parse_json(read_within(path, MAX_JSON))
    except ValueError as error:  # also a UnicodeDecodeError
        raise ValueError(f"{path}: not valid JSON ({error})") from error


def sync_folder(folder: Path) -> None:
    """Make a rename durable. Some network file systems cannot sync a folder; there this does nothing."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
