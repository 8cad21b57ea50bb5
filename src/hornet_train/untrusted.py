"""Files that somebody else may have written: read within limits, parsed without surprises, never written
through a link.

A checkpoint, a run folder or a data set may come from anyone. What reads a text of it goes through here, so
that a file of another kind (a device, a pipe), of absurd size or nested without end is refused in words
before it costs memory or time. Each limit is far above what is ever met in earnest; docs/security.md lists
them.
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
MAX_CONFIG = MB // 4  # of a config.yaml; ours have 4 KB
MAX_JSON = 64 * MB  # a checkpoint's state (damaged samples), class names, an index of shards
MAX_LABELS = 64 * MB  # text files of labels and of rows
MAX_HEADER = 16 * MB  # of a safetensors file; of 100,000 tensors it has some 12
MAX_DEPTH = 32  # mappings and lists within each other in a config


_log = logging.getLogger("hornet_train")


class Refused(ValueError):  # noqa: N818 - as in "connection refused"
    """A file or a text beyond a limit; the message says which, without the file's name."""


def open_plain(path: str | os.PathLike[str], *, waiting: bool = False) -> io.FileIO:
    """A regular file, unbuffered; a device is not read, and a pipe not waited for unless `waiting`.

    Raises:
        OSError: it cannot be opened, or is no regular file.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags if waiting else flags | os.O_NONBLOCK)

    try:
        file = io.FileIO(os.fspath(path), "rb", opener=opener)
    except ValueError as error:  # a zero byte in the name
        raise OSError(errno.EINVAL, str(error), os.fspath(path)) from error
    mode = os.fstat(file.fileno()).st_mode
    if not stat.S_ISREG(mode) and not (waiting and stat.S_ISFIFO(mode)):  # whose clock says what it is
        file.close()
        raise OSError(errno.EINVAL, "it is no regular file", os.fspath(path))
    return file


def read_within(path: str | os.PathLike[str], most: int, *, waiting: bool = False) -> bytes:
    """The content of a regular file of at most so many bytes; see `open_plain`.

    Raises:
        OSError: it cannot be read, or is no regular file.
        Refused: it is larger.
    """
    with open_plain(path, waiting=waiting) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise Refused(f"it has {size:,} bytes, and {most:,} is the limit of its kind")
        parts = []
        while size >= 0 and (part := file.read(size + 1)):  # one more, to see that it has not grown
            parts.append(part)
            size -= len(part)
    if size < 0:
        raise Refused("it grows while it is read")
    return b"".join(parts)


def read_text(path: str | os.PathLike[str], most: int, *, encoding: str = "utf-8") -> str:
    """The same as text. Raises UnicodeDecodeError, a ValueError, too."""
    return read_within(path, most).decode(encoding)


def parse_json(text: bytes | str, most: int = MAX_JSON) -> Any:
    """What a JSON text says.

    Raises:
        ValueError: it is not JSON, longer than `most`, or nested deeper than Python follows.
    """
    if len(text) > most:
        raise Refused(f"it has {len(text):,} bytes, and {most:,} is the limit of its kind")
    try:
        return json.loads(text)
    except RecursionError:
        raise Refused("it is nested too deeply") from None


def check_depth(tree: object, most: int = MAX_DEPTH) -> None:
    """Raises Refused where mappings and lists lie deeper within each other. What is shared counts each time:
    give it nothing that was parsed from references."""
    level = [tree]
    for _ in range(most + 1):
        inside = [node for node in level if isinstance(node, Mapping | list | tuple)]
        if not inside:
            return
        level = [below for node in inside for below in (node.values() if isinstance(node, Mapping) else node)]
    raise Refused(f"it is nested deeper than {most} levels")


def check_header(start: bytes) -> None:
    """Refuse a safetensors file by its first 8 bytes, the length of its header.

    The library takes 100 MB, of which it makes some gigabytes of objects.
    """
    length = int.from_bytes(start[:8], "little")
    if len(start) < 8 or length > MAX_HEADER:
        raise Refused(f"its header is to have {length:,} bytes, and {MAX_HEADER:,} is the limit")


def open_own(path: str | os.PathLike[str], mode: str, *, buffering: int = -1) -> IO[Any]:
    """Open a file to write to as `open` does, but not where a link leads: in a folder that somebody else has
    made it could lead to any file of this user's.

    Raises:
        OSError: as the file system says; ELOOP for a link.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW, 0o666)

    try:
        return open(path, mode, buffering, opener=opener)
    except OSError as error:
        if error.errno == errno.ELOOP:
            told = "it is a link, and what a run writes goes through none: remove it"
            raise OSError(errno.ELOOP, told, os.fspath(path)) from None
        raise


@cache
def keeps_code() -> bool:
    """Whether numba may keep compiled loops: what it keeps it unpickles, so nobody else may write there.

    By itself it chooses the installed package or the user's cache folder; NUMBA_CACHE_DIR may say `/tmp`.
    """
    place = os.environ.get("NUMBA_CACHE_DIR")
    if not place or only_ours(Path(place)):
        return True
    _log.warning(
        "loops are compiled anew, not kept in NUMBA_CACHE_DIR=%s: others may write there, too; set it to a "
        "folder of your own",
        place,
    )
    return False


def only_ours(folder: Path) -> bool:
    """Whether nobody but this user and root can put files into a folder, which is made where it is absent."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.stat()
    except OSError:
        return False
    return found.st_uid in (0, os.getuid()) and not found.st_mode & stat.S_IWOTH
