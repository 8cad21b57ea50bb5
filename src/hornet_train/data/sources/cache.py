"""Scans of large trees, kept between runs and shared by the processes of one.

A scan is kept under the cache folder as plain arrays, which every process maps instead of loading. It holds
for as long as every folder in it has the times it had: a file that is added, removed or renamed changes those
of its folder. Where a folder changed so shortly before the scan that its time stamp
may not show it, the scan is not trusted.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from hornet_train.data.sources.tree import Tree, scan, stamp
from hornet_train.untrusted import open_nofollow

CACHED_FROM = 50_000  # files; fewer are listed again in less time than it takes to wonder

_VERSION = 4  # of what is kept of a tree; what an older version kept is scanned again
_ARRAYS = ("names", "ends", "first", "begin")
_SETTLED_NS = 2_000_000_000  # the coarsest clock of a file system in use
_log = logging.getLogger("hornet_train")


def cache_folder() -> Path:
    """HORNET_CACHE, or hornet-train in the user's cache folder."""
    if place := os.environ.get("HORNET_CACHE"):
        return Path(place)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hornet-train"


def place_of(kind: str, key: bytes) -> Path:
    """Where something is kept, by a key of any length."""
    return cache_folder() / kind / hashlib.sha256(key).hexdigest()[:32]


@contextmanager
def locked(place: Path) -> Iterator[bool]:
    """Held by one process of this machine at a time; the others wait. False where nothing can be kept."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = open_nofollow(place.parent / f"{place.name[0]}.lock", "w")
    except OSError as error:
        _log.warning("scans are not kept: %s cannot be written (%s)", place.parent, error.strerror)
        yield False
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield True


def scan_cached(
    folder: Path, extensions: tuple[str, ...], *, cached_from: int = CACHED_FROM
) -> tuple[Tree, Path | None]:
    """The tree of a folder, from the cache where that still holds.

    Of several processes on one machine one scans and the others wait for it.

    Args:
        folder, extensions: see `scan`.
        cached_from: files from which on a scan is kept.

    Returns:
        The tree, and where it is kept: its arrays are maps of files there; None where it is not kept.

    Raises:
        OSError: `folder` cannot be listed.
    """
    place = place_of("scans", os.fsencode(os.path.realpath(folder)) + repr(extensions).encode())
    with locked(place) as writable:
        if not writable:
            return scan(folder, extensions), None
        if (kept := load(place)) is not None and _holds(kept, folder):
            return kept, place
        begin = time.time_ns()
        tree = scan(folder, extensions)
        newest = max(max(times) for times in tree.stamps.values())
        if len(tree) < cached_from or tree.faults or newest > begin - _SETTLED_NS:
            return tree, None
        try:
            _write(tree, place)
        except OSError as error:
            _log.warning("the scan of %s is not kept in %s (%s)", folder, place, error.strerror)
            return tree, None
        kept = load(place)
        return (tree, None) if kept is None else (kept, place)


def load(place: Path) -> Tree | None:
    """A kept tree, its arrays mapped from their files; None where there is none that is complete and of this
    version."""
    try:
        facts = json.loads((place / "tree.json").read_text(encoding="utf-8"))
        if facts["version"] != _VERSION:
            return None
        arrays = {name: np.load(place / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
        stamps = {name: (int(a), int(b)) for name, (a, b) in facts["stamps"].items()}
        return Tree(tuple(facts["folders"]), **arrays, ignored=dict(facts["ignored"]), stamps=stamps)
    except (OSError, ValueError, EOFError, LookupError, TypeError, AttributeError):  # absent or damaged
        return None


def _holds(tree: Tree, folder: Path) -> bool:
    try:
        return all(stamp(folder / name) == times for name, times in tree.stamps.items())
    except OSError:  # a folder has gone
        return False


def _write(tree: Tree, place: Path) -> None:
    """Written beside and renamed: whoever has the old files mapped keeps them."""
    beside = place.with_name(f"{place.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    for name in _ARRAYS:
        array: np.ndarray[Any, Any] = getattr(tree, name)
        np.save(beside / f"{name}.npy", array)
    facts = {
        "version": _VERSION,
        "folders": tree.folders,
        "ignored": tree.ignored,
        "stamps": tree.stamps,
    }
    (beside / "tree.json").write_text(json.dumps(facts), encoding="utf-8")
    if place.exists():
        shutil.rmtree(place)
    os.replace(beside, place)
