"""Files that somebody else may have written: read within limits, parsed safely, never written through a link.

A checkpoint, a run folder or a data set may come from anyone. Its text files are read by the functions here,
so that a device, a pipe, a file of absurd size or one nested without end is refused with a message before it
costs memory or time. Each limit is far above what occurs in practice; docs/security.md lists them.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import stat
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO, Any

MB = 10**6
MAX_CONFIG = MB // 4  # a config.yaml; usual ones have 4 KB
MAX_JSON = 64 * MB  # a checkpoint's state (with indices of damaged samples), class names, an index of shards
MAX_LABELS = 64 * MB  # text files of labels and of rows
MAX_TABLE = 512 * MB  # a table of files and labels; one of ImageNet's has 70 MB
MAX_LISTING = 512 * MB  # the names of a data set's files, unpacked; ImageNet's have 40 MB
MAX_HEADER = 16 * MB  # the header of a safetensors file; 12 MB suffice for 100,000 tensors
MAX_DEPTH = 32  # nested mappings and lists in a config


_log = logging.getLogger("hornet_train")


class Refused(ValueError):  # noqa: N818 - as in "connection refused"
    """A file or a text exceeds a limit. The message names the limit, not the file."""


def open_regular(path: str | os.PathLike[str], *, waiting: bool = False) -> io.FileIO:
    """Open a regular file, unbuffered. Devices are refused.

    Args:
        waiting: also accept a named pipe, and wait for its writer.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags if waiting else flags | os.O_NONBLOCK)

    try:
        file = io.FileIO(os.fspath(path), "rb", opener=opener)
    except ValueError as error:  # a zero byte in the name
        raise OSError(errno.EINVAL, str(error), os.fspath(path)) from error
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode) and not (waiting and stat.S_ISFIFO(mode)):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
    return file


def read_within(path: str | os.PathLike[str], most: int, *, waiting: bool = False) -> bytes:
    """The content of a regular file of at most `most` bytes; see `open_regular`.

    Raises:
        OSError: it cannot be read, or is not a regular file.
        Refused: it is larger.
    """
    with open_regular(path, waiting=waiting) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise Refused(f"it has {size:,} bytes, and {most:,} is the limit of its kind")
        parts = []
        while size >= 0 and (part := file.read(size + 1)):  # one byte more, to notice if it has grown
            parts.append(part)
            size -= len(part)
    if size < 0:
        raise Refused("it grows while it is read")
    return b"".join(parts)


def read_text(path: str | os.PathLike[str], most: int, *, encoding: str = "utf-8") -> str:
    """`read_within`, decoded. Also raises UnicodeDecodeError, a ValueError."""
    return read_within(path, most).decode(encoding)


def parse_json(text: bytes | str, most: int = MAX_JSON) -> Any:
    """Parse a JSON text of at most `most` bytes or characters.

    Raises:
        ValueError: it is not JSON, is too long, or is nested deeper than Python's recursion limit.
    """
    if len(text) > most:
        raise Refused(f"it has {len(text):,} bytes, and {most:,} is the limit of its kind")
    try:
        return json.loads(text)
    except RecursionError:
        raise Refused("it is nested too deeply") from None


def check_depth(tree: object, most: int = MAX_DEPTH) -> None:
    """Raises Refused if mappings and lists are nested deeper than `most`. A node that is referenced several
    times is visited each time, so do not pass trees with references (YAML anchors)."""
    level = [tree]
    for _ in range(most + 1):
        nodes = [node for node in level if isinstance(node, Mapping | list | tuple)]
        if not nodes:
            return
        level = [below for node in nodes for below in (node.values() if isinstance(node, Mapping) else node)]
    raise Refused(f"it is nested deeper than {most} levels")


def check_header(start: bytes) -> None:
    """Raises Refused if the first 8 bytes of a safetensors file announce a header above `MAX_HEADER`.

    The library allows 100 MB, for which it would allocate gigabytes of objects.
    """
    length = int.from_bytes(start[:8], "little")
    if len(start) < 8 or length > MAX_HEADER:
        raise Refused(f"its header is to have {length:,} bytes, and {MAX_HEADER:,} is the limit")


def open_nofollow(path: str | os.PathLike[str], mode: str, *, buffering: int = -1) -> IO[Any]:
    """`open` for writing, but without following a symbolic link: in a folder that somebody else has made a
    link could point to any file of this user.

    Raises:
        OSError: as from `open`; ELOOP for a link.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW, 0o666)

    try:
        return open(path, mode, buffering, encoding=None if "b" in mode else "utf-8", opener=opener)
    except OSError as error:
        if error.errno == errno.ELOOP:
            reason = "it is a link, and a run writes to no links: remove it"
            raise OSError(errno.ELOOP, reason, os.fspath(path)) from None
        raise


@cache
def may_cache_code() -> bool:
    """Whether numba may cache compiled loops on disk. It unpickles its cache, so others must not be able to
    write there. By default that is the installed package or the user's cache folder; NUMBA_CACHE_DIR may be
    any folder, `/tmp` for one."""
    folder = os.environ.get("NUMBA_CACHE_DIR")
    if not folder or only_user_can_write(Path(folder)):
        return True
    _log.warning(
        "compiled loops are not cached in NUMBA_CACHE_DIR=%s, but compiled again, because other users can "
        "write there; set it to a folder of your own",
        folder,
    )
    return False


def only_user_can_write(folder: Path) -> bool:
    """Whether only this user and root can write into a folder. The folder is created if it is missing."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return False
    return found.st_uid in (0, os.getuid()) and not found.st_mode & stat.S_IWOTH
