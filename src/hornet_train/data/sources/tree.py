"""The files of a tree of class folders, as a few packed arrays: 14 million of them in some hundred megabytes.

A list of so many paths would take over a gigabyte, and be copied page by page into every worker as reference
counts change. Here a file is its name within its class folder (bytes, one after the other) and the place
where the name ends; its class follows from its place.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")

_LISTING_THREADS = 16  # network file systems answer several questions at once
_AHEAD = 256  # class folders listed but not yet packed

Stamp = tuple[int, int]  # of a folder: when its entries changed and when its inode did, in ns


@dataclass(frozen=True)
class Tree:
    """What lies in the class folders of one folder; class k has the files [first[k], first[k + 1]).

    Attributes:
        classes: the names of the class folders, sorted.
        names: uint8, each file's path within its class folder, as the file system's bytes, sorted there.
        ends: uint32 (files,), where each name ends, counted from the first byte of its class.
        first: int64 (classes + 1,), files before each class.
        begin: int64 (classes + 1,), bytes before each class.
        ignored: files whose names are not those of images.
        folders: of each folder that was listed, by its path below the one scanned.
        faults: folders that could not be listed, as sentences.
    """

    classes: tuple[str, ...]
    names: np.ndarray[Any, np.dtype[np.uint8]]
    ends: np.ndarray[Any, np.dtype[np.uint32]]
    first: np.ndarray[Any, np.dtype[np.int64]]
    begin: np.ndarray[Any, np.dtype[np.int64]]
    ignored: int
    folders: dict[str, Stamp]
    faults: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.ends)

    def name(self, file: int) -> tuple[int, bytes]:
        """(class, path within its folder) of a file."""
        kind = int(np.searchsorted(self.first, file, side="right")) - 1
        origin = int(self.begin[kind])
        start = origin + (int(self.ends[file - 1]) if file > self.first[kind] else 0)
        return kind, self.names[start : origin + int(self.ends[file])].tobytes()


@dataclass(frozen=True)
class _Listed:
    """One class folder."""

    names: bytes
    ends: np.ndarray[Any, np.dtype[np.uint32]]
    ignored: int
    folders: dict[str, Stamp]
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


def scan(folder: Path) -> Tree:
    """List every class folder; names that start with a dot are passed over.

    Raises:
        OSError: `folder` itself cannot be listed.
    """
    folders = {".": stamp(folder)}
    classes = tuple(sorted(name for name in entries(folder, folders=True) if not name.startswith(".")))
    names, ends, faults = bytearray(), [np.empty(0, dtype=np.uint32)], list[str]()
    first, begin = np.zeros((2, len(classes) + 1), dtype=np.int64)
    ignored = 0
    for k, listed in enumerate(_listed(folder, classes), start=1):
        names += listed.names
        ends.append(listed.ends)
        first[k], begin[k] = first[k - 1] + len(listed.ends), len(names)
        ignored += listed.ignored
        folders |= listed.folders
        faults += listed.faults
    packed = np.frombuffer(names, dtype=np.uint8)
    return Tree(classes, packed, np.concatenate(ends), first, begin, ignored, folders, tuple(faults))


def _listed(folder: Path, classes: tuple[str, ...]) -> Iterator[_Listed]:
    """Each class folder in order, a few ahead."""
    with ThreadPoolExecutor(_LISTING_THREADS) as pool:
        for k in range(0, len(classes), _AHEAD):
            yield from pool.map(lambda name: _list_class(folder, name), classes[k : k + _AHEAD])


def _list_class(folder: Path, name: str) -> _Listed:
    faults: list[str] = []

    def unreadable(error: OSError) -> None:
        faults.append(f"{error.filename} cannot be listed ({error.strerror}); check its permissions")

    images: list[bytes] = []
    folders: dict[str, Stamp] = {}
    met: dict[tuple[int, int], str] = {}
    ignored = 0
    for place, below, files in os.walk(folder / name, onerror=unreadable, followlinks=True):
        found = os.stat(place)
        if (first := met.setdefault((found.st_dev, found.st_ino), place)) != place:
            faults.append(f"{place} is {first} once more, by a symbolic link; remove the link")
            below.clear()
            continue
        below[:] = sorted(entry for entry in below if not entry.startswith("."))
        folders[os.path.relpath(place, folder)] = stamp(place)
        inside = os.path.relpath(place, folder / name)
        taken = [file for file in files if not file.startswith(".") and file.lower().endswith(EXTENSIONS)]
        images += [os.fsencode(file if inside == "." else os.path.join(inside, file)) for file in taken]
        ignored += len(files) - len(taken)
    images.sort()
    ends = np.cumsum([len(image) for image in images], dtype=np.uint32)
    return _Listed(b"".join(images), ends, ignored, folders, faults)
