"""Where the samples of tars lie, kept between runs and shared by the processes of one."""

from __future__ import annotations

import logging
import os
import zipfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np

from hornet_train.data.sources.cache import locked, place_of
from hornet_train.data.sources.source import Encoded, Fields
from hornet_train.data.sources.storage_errors import file_errors
from hornet_train.data.sources.tar_members import SampleRule, TarSample, tar_samples
from hornet_train.errors import DataError

Integers = np.ndarray[Any, np.dtype[np.int64]]

_VERSION = 2  # of what is kept; what an older version kept is scanned again
_log = logging.getLogger("hornet_train")


@dataclass(frozen=True)
class Contents:
    """One member of each sample, such as its image.

    Attributes:
        offsets: where each one's content begins in its tar, in bytes.
        sizes: bytes of each.
        names: of the members, UTF-8, one after the other.
        ends: where each name ends.
    """

    offsets: Integers
    sizes: Integers
    names: np.ndarray[Any, np.dtype[np.uint8]]
    ends: Integers

    def read(self, tar: IO[bytes], sample: int, path: str) -> Encoded:
        """The content that belongs to a sample. Raises DataError where the tar is shorter by now."""
        tar.seek(int(self.offsets[sample]))
        data = tar.read(int(self.sizes[sample]))
        name = self.name(sample)
        if len(data) < self.sizes[sample]:
            raise DataError(f"{path}: ends within {name}; it is incomplete: fetch it again")
        return Encoded(data, f"{path}: {name}")

    def name(self, sample: int) -> str:
        """The name of the member that belongs to a sample."""
        begin = int(self.ends[sample - 1]) if sample else 0
        return self.names[begin : int(self.ends[sample])].tobytes().decode(errors="replace")


@dataclass(frozen=True)
class TarIndex:
    """The samples of several local tars, one after the other.

    Attributes:
        paths: of the tars.
        counts: samples of each.
        files: by field, where the members lie that are read.
        numbers: by field, the numbers of each sample.
    """

    paths: tuple[str, ...]
    counts: Integers
    files: Mapping[str, Contents]
    numbers: Mapping[str, Integers]

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        return tuple(self.counts.tolist())

    def read(self, shard: int, start: int) -> Iterator[Fields]:
        """The samples of a tar from its `start`-th on. Raises DataError where the tar is shorter by now."""
        first = int(self.counts[:shard].sum())
        path = self.paths[shard]
        with open(path, "rb") as tar:
            for at in range(first + start, first + int(self.counts[shard])):
                fields: Fields = {name: found.read(tar, at, path) for name, found in self.files.items()}
                fields |= {name: int(values[at]) for name, values in self.numbers.items()}
                yield fields


def scan_tars(paths: Sequence[str], rule: SampleRule) -> TarIndex:
    """The index of tars on this machine, from the cache where none of them has changed since.

    Of several processes on one machine one scans and the others wait for it.

    Args:
        paths: of the tars.
        rule: what a sample is made of.

    Raises:
        DataError: a tar cannot be read, or a sample in it is not what the rule asks for.
    """
    stamps = []
    for path in paths:
        with file_errors(path):
            found = os.stat(path)
        stamps.append((os.path.realpath(path), found.st_size, found.st_mtime_ns))
    paths = tuple(path for path, _, _ in stamps)
    state = repr((_VERSION, rule.name, stamps))
    key = repr((paths, rule.name))
    place = place_of("tars", key.encode(errors="surrogateescape")).with_suffix(".npz")
    with locked(place) as writable:
        if not writable:
            return _scan(paths, rule)
        if (kept := _load(place, paths, rule, state)) is not None:
            return kept
        index = _scan(paths, rule)
        try:
            _write(index, place, state)
        except OSError as error:
            _log.warning("the scan of %s, ... is not kept in %s (%s)", paths[0], place, error.strerror)
        return index


def _samples_of(path: str, rule: SampleRule) -> list[TarSample]:
    """The samples of one tar."""
    with file_errors(path), open(path, "rb") as opened:
        return list(tar_samples(opened, path, rule))


def _scan(paths: tuple[str, ...], rule: SampleRule) -> TarIndex:
    counts = array("q")
    places = {field: {"offsets": array("q"), "sizes": array("q"), "ends": array("q")} for field in rule.files}
    names = {field: bytearray() for field in rule.files}
    numbers = {field: array("q") for field in rule.numbers}
    for path in paths:
        samples = _samples_of(path, rule)
        counts.append(len(samples))
        for sample in samples:
            for field, member in zip(rule.files, sample.files, strict=True):
                places[field]["offsets"].append(member.offset)
                places[field]["sizes"].append(member.size)
                names[field] += member.name.encode(errors="surrogateescape")
                places[field]["ends"].append(len(names[field]))
            for field, number in zip(rule.numbers, sample.numbers, strict=True):
                numbers[field].append(number)
    files = {
        field: Contents(
            **{name: np.array(values, dtype=np.int64) for name, values in places[field].items()},
            names=np.frombuffer(bytes(names[field]), np.uint8),
        )
        for field in rule.files
    }
    return TarIndex(
        paths,
        np.array(counts, dtype=np.int64),
        files,
        {field: np.array(values, dtype=np.int64) for field, values in numbers.items()},
    )


_CONTENTS = ("offsets", "sizes", "names", "ends")


def _load(place: Path, paths: tuple[str, ...], rule: SampleRule, state: str) -> TarIndex | None:
    """A kept index; None where there is none, an incomplete one, or one of tars that have changed since."""
    try:
        with np.load(place) as arrays:
            if arrays["state"].item() != state:
                return None
            files = {
                field: Contents(**{name: arrays[f"files.{field}.{name}"] for name in _CONTENTS})
                for field in rule.files
            }
            numbers = {field: arrays[f"numbers.{field}"] for field in rule.numbers}
            return TarIndex(paths, arrays["counts"], files, numbers)
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None


def _write(index: TarIndex, place: Path, state: str) -> None:
    """Written beside and renamed."""
    beside = place.with_name(f"{place.stem}.{os.getpid()}.tmp.npz")
    arrays = {
        f"files.{field}.{name}": getattr(found, name)
        for field, found in index.files.items()
        for name in _CONTENTS
    }
    arrays |= {f"numbers.{field}": values for field, values in index.numbers.items()}
    np.savez(beside, state=np.array(state), counts=index.counts, **arrays)
    os.replace(beside, place)
