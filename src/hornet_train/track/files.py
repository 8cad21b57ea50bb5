"""Files that are whole or absent: written beside, synced, then renamed over the old one."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from hornet_train.untrusted import MAX_JSON, parse_json, read_within


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
    """Put `data` at `path`, where nothing is, and onto the disk; a kill may leave a part of it."""
    with open(path, "xb") as file:  # made anew, and so not written through a link
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


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
