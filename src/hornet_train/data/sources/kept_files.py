"""The files of a tree as a run lists them when it begins, and what has come and gone since.

A run is one of the same samples, and a sample's place follows from the sorted names. So where an image that
cannot be read is removed, the others would all move. With the list, the removed file keeps its place: it is
a file that cannot be read, as it was before.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from hornet_train.data.sources.source import sha256_of
from hornet_train.data.sources.tree import Tree
from hornet_train.errors import DataError
from hornet_train.track.durable_files import write_bytes
from hornet_train.untrusted import MAX_LISTING, open_regular

MOST_FILES = 3_000_000  # more are not listed: it would take longer than their scan

_DIGEST = 64  # hex digits


@dataclass(frozen=True)
class Changed:
    """What became of a tree since it was listed; paths are relative to its folder.

    Attributes:
        gone: files that were there.
        new: files that were not.
    """

    gone: tuple[bytes, ...] = ()
    new: tuple[bytes, ...] = ()


def place_of_list(run_folder: Path, split: str) -> Path:
    """Where a run lists the files of a split."""
    return run_folder / "files" / f"{split}.gz"


def keep_files(tree: Tree, place: Path) -> None:
    """List the files of a tree in a file, unless it lists them already, or they are too many to be listed.

    `zcat <place> | tr '\\0' '\\n'` shows them: first a digest, then the paths, sorted.

    Raises:
        OSError: it cannot be written.
    """
    digest = _digest(tree)
    if place.exists() and _listed_digest(place) == digest:
        return
    content = b"\0".join([digest, *paths_of(tree)]) if len(tree) <= MOST_FILES else b""
    if not content or len(content) > MAX_LISTING:
        place.unlink(missing_ok=True)  # of other files
        return
    place.parent.mkdir(exist_ok=True)
    write_bytes(place, gzip.compress(content, compresslevel=1, mtime=0))


def changed_since(tree: Tree, place: Path) -> Changed:
    """How a tree differs from what `keep_files` listed; nothing where there is no such list.

    Raises:
        DataError: the list cannot be read.
    """
    if not place.exists() or _listed_digest(place) == _digest(tree):
        return Changed()
    content = _read(place, MAX_LISTING + 1)
    if len(content) > MAX_LISTING:
        raise DataError(f"{place} unpacks to more than {MAX_LISTING:,} bytes: remove it")
    before, now = set(content.split(b"\0")[1:]), set(paths_of(tree))
    return Changed(tuple(sorted(before - now)), tuple(sorted(now - before)))


def with_files(tree: Tree, paths: Iterable[bytes]) -> Tree:
    """A tree with more files, each in its place in the sorted order.

    Args:
        paths: relative to the folder that was scanned; none of them is in the tree.
    """
    more: dict[str, list[bytes]] = {}
    for path in paths:
        top, _, name = path.partition(b"/")
        more.setdefault(os.fsdecode(top), []).append(name)
    places = {name: place for place, name in enumerate(tree.folders)}
    folders = tuple(sorted({*tree.folders, *more}))
    names: list[np.ndarray[Any, np.dtype[np.uint8]]] = []
    ends: list[np.ndarray[Any, np.dtype[np.uint32]]] = []
    for folder in folders:
        place = places.get(folder)
        if folder not in more:
            assert place is not None
            names.append(tree.names[tree.begin[place] : tree.begin[place + 1]])
            ends.append(tree.ends[tree.first[place] : tree.first[place + 1]])
            continue
        there = () if place is None else _names(tree, place)
        merged = sorted([*there, *more[folder]])
        names.append(np.frombuffer(b"".join(merged), dtype=np.uint8))
        ends.append(np.cumsum([len(name) for name in merged], dtype=np.uint32))
    counts = [len(part) for part in ends]
    sizes = [len(part) for part in names]
    return replace(
        tree,
        folders=folders,
        names=np.concatenate(names),
        ends=np.concatenate(ends),
        first=np.append(0, np.cumsum(counts)).astype(np.int64),
        begin=np.append(0, np.cumsum(sizes)).astype(np.int64),
    )


def paths_of(tree: Tree) -> Iterator[bytes]:
    """The files of a tree, relative to the folder that was scanned, in order."""
    for place, folder in enumerate(tree.folders):
        top = os.fsencode(folder) + b"/"
        yield from (top + name for name in _names(tree, place))


def _names(tree: Tree, folder: int) -> Iterator[bytes]:
    """The files of one folder, within it."""
    content = tree.names[tree.begin[folder] : tree.begin[folder + 1]].tobytes()
    start = 0
    for end in tree.ends[tree.first[folder] : tree.first[folder + 1]].tolist():
        yield content[start:end]
        start = end


def _digest(tree: Tree) -> bytes:
    folders = b"\0".join(map(os.fsencode, tree.folders))
    return sha256_of(tree.names, tree.ends, tree.first, folders).encode()


def _listed_digest(place: Path) -> bytes:
    return _read(place, _DIGEST)


def _read(place: Path, size: int) -> bytes:
    try:
        with open_regular(place) as packed, gzip.GzipFile(fileobj=packed) as file:
            return file.read(size)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{place} cannot be read ({error}): remove it") from error
