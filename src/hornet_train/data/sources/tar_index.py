"""Where the samples of tars lie, kept between runs and shared by the processes of one."""

from __future__ import annotations

import logging
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hornet_train.data.sources.cache import locked, place_of
from hornet_train.data.sources.hub_errors import shard_told
from hornet_train.data.sources.shards import Encoded
from hornet_train.errors import DataError

Integers = np.ndarray[Any, np.dtype[np.int64]]
Scan = Callable[[str], Sequence[tuple[int, int, int, str]]]

_log = logging.getLogger("hornet_train")


@dataclass(frozen=True)
class TarIndex:
    """The samples of several local tars, one after the other.

    Attributes:
        paths: of the tars.
        counts: samples of each.
        offsets: where each sample's image begins in its tar, in bytes.
        sizes: bytes of each image.
        labels: of each sample.
        names: of the images' members, UTF-8, each ended by a zero byte.
        ends: where each name ends.
    """

    paths: tuple[str, ...]
    counts: Integers
    offsets: Integers
    sizes: Integers
    labels: Integers
    names: np.ndarray[Any, np.dtype[np.uint8]]
    ends: Integers

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        return tuple(self.counts.tolist())

    def read(self, shard: int, start: int) -> Iterator[Encoded]:
        """The samples of a tar from its `start`-th on. Raises DataError where the tar is shorter by now."""
        first = int(self.counts[:shard].sum())
        path = self.paths[shard]
        with open(path, "rb") as tar:
            for at in range(first + start, first + int(self.counts[shard])):
                tar.seek(int(self.offsets[at]))
                data = tar.read(int(self.sizes[at]))
                begin = int(self.ends[at - 1]) if at else 0
                name = self.names[begin : int(self.ends[at])].tobytes().decode(errors="replace")
                if len(data) < self.sizes[at]:
                    raise DataError(f"{path}: ends within {name}; it is incomplete: fetch it again")
                yield Encoded(data, int(self.labels[at]), f"{path}: {name}")


def indexed(paths: Sequence[str], scan: Scan) -> TarIndex:
    """The index of tars, from the cache where none of them has changed since.

    Of several processes on one machine one scans and the others wait for it.

    Args:
        paths: of the tars.
        scan: gives (offset, size, label, name) of each sample of a tar.

    Raises:
        DataError: a tar cannot be read.
    """
    stamps = []
    for path in paths:
        with shard_told(path):
            found = os.stat(path)
        stamps.append((os.path.realpath(path), found.st_size, found.st_mtime_ns))
    paths = tuple(path for path, _, _ in stamps)
    told = repr(stamps)
    place = place_of("tars", repr(paths).encode(errors="surrogateescape")).with_suffix(".npz")
    with locked(place) as writable:
        if not writable:
            return _scanned(paths, scan)
        if (kept := _load(place, paths, told)) is not None:
            return kept
        index = _scanned(paths, scan)
        try:
            _keep(index, place, told)
        except OSError as error:
            _log.warning("the scan of %s, ... is not kept in %s (%s)", paths[0], place, error.strerror)
        return index


def _scanned(paths: tuple[str, ...], scan: Scan) -> TarIndex:
    offsets, sizes, labels, ends, counts = [], [], [], [], []
    names = bytearray()
    for path in paths:
        found = scan(path)
        counts.append(len(found))
        for offset, size, label, name in found:
            offsets.append(offset)
            sizes.append(size)
            labels.append(label)
            names += name.encode(errors="surrogateescape")
            ends.append(len(names))
    numbers = {"counts": counts, "offsets": offsets, "sizes": sizes, "labels": labels, "ends": ends}
    arrays = {name: np.array(values, dtype=np.int64) for name, values in numbers.items()}
    return TarIndex(paths, **arrays, names=np.frombuffer(bytes(names), np.uint8))


_ARRAYS = ("counts", "offsets", "sizes", "labels", "names", "ends")


def _load(place: Path, paths: tuple[str, ...], stamps: str) -> TarIndex | None:
    """A kept index; None where there is none, not a whole one, or one of tars that have changed since."""
    try:
        with np.load(place) as arrays:
            if arrays["stamps"].item() != stamps:
                return None
            return TarIndex(paths, **{name: arrays[name] for name in _ARRAYS})
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None


def _keep(index: TarIndex, place: Path, stamps: str) -> None:
    """Written beside and renamed."""
    beside = place.with_name(f"{place.stem}.{os.getpid()}.tmp.npz")
    np.savez(beside, stamps=np.array(stamps), **{name: getattr(index, name) for name in _ARRAYS})
    os.replace(beside, place)
