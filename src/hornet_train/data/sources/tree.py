"""The files of a tree of folders, as a few packed arrays: 14 million of them in some hundred megabytes.

A list of so many paths would take over a gigabyte, and be copied page by page into every worker as reference
counts change. Here a file is its path within one of the uppermost folders (bytes, one after the other) and
the place where that path ends; which folder it is in follows from its place.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hornet_train.data.sources.litter import is_litter

_LISTING_THREADS = 16  # network file systems answer several questions at once
_AHEAD = 256  # uppermost folders listed but not yet packed

Stamp = tuple[int, int]  # of a folder: when its entries changed and when its inode did, in ns


@dataclass(frozen=True)
class Tree:
    """What lies in the folders of one folder; the k-th has the files [first[k], first[k + 1]).

    Attributes:
        folders: the names of the uppermost folders, sorted.
        names: uint8, each file's path within its uppermost folder, as the file system's bytes, sorted there.
        ends: uint32 (files,), where each name ends, counted from the first byte of its uppermost folder.
        first: int64 (folders + 1,), files before each uppermost folder.
        begin: int64 (folders + 1,), bytes before each uppermost folder.
        ignored: extension -> files that have none of the wanted ones.
        stamps: when each folder that was listed changed, by its path below the one scanned.
        faults: folders that could not be listed, as sentences.
    """

    folders: tuple[str, ...]
    names: np.ndarray[Any, np.dtype[np.uint8]]
    ends: np.ndarray[Any, np.dtype[np.uint32]]
    first: np.ndarray[Any, np.dtype[np.int64]]
    begin: np.ndarray[Any, np.dtype[np.int64]]
    ignored: dict[str, int]
    stamps: dict[str, Stamp]
    faults: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ends)

    def name(self, file: int) -> tuple[int, bytes]:
        """(place of its uppermost folder, path within that) of a file."""
        top = int(np.searchsorted(self.first, file, side="right")) - 1
        origin = int(self.begin[top])
        start = origin + (int(self.ends[file - 1]) if file > self.first[top] else 0)
        return top, self.names[start : origin + int(self.ends[file])].tobytes()


@dataclass(frozen=True)
class _Listed:
    """One uppermost folder."""

    names: bytes
    ends: np.ndarray[Any, np.dtype[np.uint32]]
    ignored: Counter[str]
    stamps: dict[str, Stamp]
    faults: list[str]


def stamp(folder: str | os.PathLike[str]) -> Stamp:
    """Raises OSError where there is no such folder."""
    found = os.stat(folder)
    return found.st_mtime_ns, found.st_ctime_ns


def entries(folder: Path, *, folders: bool) -> list[str]:
    """The names of the folders, or of all else, in a folder.

    Raises:
        OSError: it cannot be listed.
    """
    with os.scandir(folder) as found:
        return [entry.name for entry in found if entry.is_dir() == folders]


def scan(folder: Path, extensions: tuple[str, ...]) -> Tree:
    """List the files with one of the extensions (in lower case, with the dot) in every folder of `folder`.

    Litter is skipped (see `is_litter`), and so are files that lie in `folder` itself.

    Raises:
        OSError: `folder` itself cannot be listed.
    """
    stamps = {".": stamp(folder)}
    tops = tuple(sorted(name for name in entries(folder, folders=True) if not is_litter(name)))
    names, ends, faults = bytearray(), [np.empty(0, dtype=np.uint32)], list[str]()
    first, begin = np.zeros((2, len(tops) + 1), dtype=np.int64)
    ignored: Counter[str] = Counter()
    for k, listed in enumerate(_listed(folder, tops, extensions), start=1):
        names += listed.names
        ends.append(listed.ends)
        first[k], begin[k] = first[k - 1] + len(listed.ends), len(names)
        ignored += listed.ignored
        stamps |= listed.stamps
        faults += listed.faults
    packed = np.frombuffer(names, dtype=np.uint8)
    return Tree(tops, packed, np.concatenate(ends), first, begin, dict(ignored), stamps, tuple(faults))


def _listed(folder: Path, tops: tuple[str, ...], extensions: tuple[str, ...]) -> Iterator[_Listed]:
    """Each uppermost folder in order, a few ahead."""
    with ThreadPoolExecutor(_LISTING_THREADS) as pool:
        for k in range(0, len(tops), _AHEAD):
            yield from pool.map(lambda name: _list_top(folder, name, extensions), tops[k : k + _AHEAD])


def _extension(name: str) -> str:
    """Of a file that is passed over, in lower case."""
    if name.startswith("."):
        return "a dot before the name"
    return os.path.splitext(name)[1].lower() or "no extension"


def _list_top(folder: Path, name: str, extensions: tuple[str, ...]) -> _Listed:
    faults: list[str] = []

    def unreadable(error: OSError) -> None:
        faults.append(f"{error.filename} cannot be listed ({error.strerror}); check its permissions")

    paths: list[bytes] = []
    stamps: dict[str, Stamp] = {}
    met: dict[tuple[int, int], str] = {}
    ignored: Counter[str] = Counter()
    for place, below, files in os.walk(folder / name, onerror=unreadable, followlinks=True):
        found = os.stat(place)
        if (first := met.setdefault((found.st_dev, found.st_ino), place)) != place:
            faults.append(f"{place} is {first} once more, by a symbolic link; remove the link")
            below.clear()
            continue
        below[:] = sorted(entry for entry in below if not is_litter(entry))
        stamps[os.path.relpath(place, folder)] = stamp(place)
        inside = os.path.relpath(place, folder / name)
        taken = [file for file in files if file.lower().endswith(extensions) and not is_litter(file)]
        paths += [os.fsencode(file if inside == "." else os.path.join(inside, file)) for file in taken]
        ignored.update(_extension(file) for file in set(files).difference(taken))
    paths.sort()
    ends = np.cumsum([len(path) for path in paths], dtype=np.uint32)
    return _Listed(b"".join(paths), ends, ignored, stamps, faults)
