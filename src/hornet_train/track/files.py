"""Files that are whole or absent: written beside, synced, then renamed over the old one; one that grows."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections import deque
from pathlib import Path
from typing import IO, Any

from hornet_train.untrusted import MAX_JSON, open_own, parse_json, read_within

PIECE = 64 << 20  # bytes
_log = logging.getLogger("hornet_train")


class Traffic:
    """What this process has moved to or from disks, so that a slow one can be told from one that hangs.

    Attributes:
        pieces: of files, each of at most `PIECE` bytes.
    """

    pieces = 0


TRAFFIC = Traffic()


class GrowingFile:
    """A file that grows by whole records, each handed to the system at once: a killed process loses none.

    A disk that is full or read-only loses none either: what it refuses is kept in memory, in order, and
    written as soon as a later record shows that it takes data again. The records of a day's training are a
    few megabytes.
    """

    def __init__(self, path: str | Path) -> None:
        """Opens `path`, made where absent, at its end. Raises OSError."""
        self.path = Path(path)
        self._waiting: deque[bytes] = deque()
        self._file: IO[bytes] | None = open_own(self.path, "ab", buffering=0)
        self._size = self.path.stat().st_size  # of the whole records in it
        self._refused = False

    def append(self, record: bytes) -> None:
        """Write a record and those that wait; warn when the disk begins to refuse them."""
        self._waiting.append(record)
        try:
            self._write()
        except OSError as error:
            self._let_go()
            if not self._refused:
                _log.warning(
                    "%s cannot be written (%s): what belongs there is kept in memory until it can",
                    self.path,
                    error.strerror,
                )
            self._refused = True
        else:
            if self._refused:
                _log.warning("%s is written again, and nothing is missing in it", self.path)
            self._refused = False

    def close(self) -> None:
        """Write what waits, if that is possible now, and close the file; may be called twice."""
        with contextlib.suppress(OSError):
            self._write()
        if self._waiting:
            _log.warning("%s lacks its last %d record(s)", self.path, len(self._waiting))
            self._waiting.clear()
        self._let_go()

    def _write(self) -> None:
        if not self._waiting:
            return
        if self._file is None:
            self._file = open_own(self.path, "ab", buffering=0)
            there = os.fstat(self._file.fileno()).st_size
            self._size = min(self._size, there)
            self._file.truncate(self._size)  # a part of the record that was refused
        while self._waiting:
            rest = memoryview(self._waiting[0])
            while rest:
                rest = rest[self._file.write(rest) :]
            self._size += len(self._waiting.popleft())

    def _let_go(self) -> None:
        """Close the file: the next try opens it anew, since the old one may be of a disk that went away."""
        file, self._file = self._file, None
        if file is not None:
            with contextlib.suppress(OSError):  # what could not be written is told already
                file.close()


def write_bytes(path: str | Path, data: bytes) -> None:
    """Put `data` at `path` such that a kill or a power cut leaves the old file or the new one, never a part.

    Raises:
        OSError: as the file system says; the old file then stands as it was.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        beside.unlink(missing_ok=True)  # of a process of that number that was killed; or a link
        write_through(beside, data)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_through(path: str | Path, data: bytes) -> None:
    """Put `data` at `path`, where nothing is, and onto the disk; a kill may leave a part of it.

    Piece by piece, each counted in `TRAFFIC` when it is on the disk.

    Raises:
        OSError: as the file system says, with the file's name.
    """
    try:
        with open(path, "xb", buffering=0) as file:  # made anew, and so not written through a link
            left = memoryview(data)
            while left:
                left = left[file.write(left[:PIECE]) :]
                os.fsync(file.fileno())
                TRAFFIC.pieces += 1
    except OSError as error:
        error.filename = str(path)  # which neither a write nor a sync tells
        raise


def remove_parts(path: Path) -> None:
    """Remove what killed writers of `path` (`write_bytes`) left beside it; no other may be writing it now."""
    for part in path.parent.glob(f".{path.name}.*.tmp"):
        try:
            part.unlink()
        except OSError as error:
            _log.warning("%s cannot be removed (%s)", part, error.strerror)


def write_text(path: str | Path, text: str) -> None:
    """`write_bytes` of a text in UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, obj: Any) -> None:
    """Write `obj` as indented, strict JSON, whole or not at all.

    Raises:
        ValueError: `obj` holds NaN or infinity, which JSON cannot say.
        TypeError: `obj` holds what JSON does not know, a tensor for one.
        OSError: as the file system says.
    """
    write_text(path, json.dumps(obj, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: str | Path) -> Any:
    """The content of a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it cannot be read, or is no regular file.
        ValueError: it is not JSON in UTF-8, or beyond a limit; the message names it.
    """
    try:
        return parse_json(read_within(path, MAX_JSON))
    except ValueError as fault:  # UnicodeDecodeError is one too
        raise ValueError(f"{path}: not valid JSON ({fault})") from fault


def sync_folder(folder: Path) -> None:
    """Make a rename durable, where the file system lets a folder be synced (some network ones do not)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
