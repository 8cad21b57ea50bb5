"""What is known about shards without opening them: `<split>.index.json`, and the numbers in their names."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hornet_train.data.sources.listing import preview
from hornet_train.data.sources.storage_errors import file_errors
from hornet_train.errors import DataError
from hornet_train.untrusted import MAX_JSON, parse_json


@dataclass(frozen=True)
class ShardIndex:
    """What `hornet-data pack` says about shards that it wrote.

    Attributes:
        place: the index.json, for messages.
        names: the list of names that was asked for, such as those of the classes.
        samples: of each shard, by its path as given to `read_index`.
    """

    place: str
    names: tuple[str, ...]
    samples: Mapping[str, int]

    def check(self, paths: Sequence[str], lengths: Sequence[int]) -> None:
        """Raises DataError where shards do not hold the numbers of samples that the index says."""
        _refuse(
            self.place,
            [
                f"{os.path.basename(path)} holds {length:,} samples, not {self.samples[path]:,}"
                for path, length in zip(paths, lengths, strict=True)
                if length != self.samples.get(path, length)
            ],
        )

    def check_total(self, paths: Sequence[str], total: int) -> None:
        """The same where only the sum is known."""
        if set(paths) <= set(self.samples) and total != (stated := sum(self.samples[path] for path in paths)):
            _refuse(self.place, [f"the shards hold {total:,} samples, not {stated:,}"])


def read_index(paths: Sequence[str], split: str, key: str) -> ShardIndex | None:
    """The `<split>.index.json` in the shards' folders, held against the files there and their sizes.

    A shard that is there but not among `paths` was left out by choice; one that is not there is missing.

    Args:
        paths: of the shards, local or URLs.
        split: as the files spell it.
        key: under which the index keeps the list of names, such as "classes".

    Returns:
        None where no folder has one.

    Raises:
        DataError: an index cannot be understood, does not fit its files, or another has other names.
    """
    found: ShardIndex | None = None
    by_folder: dict[str, list[str]] = {}
    for path in paths:
        by_folder.setdefault(os.path.dirname(path), []).append(path)
    for inside in by_folder.values():
        with file_errors(inside[0]):
            one = _read_index(inside, split, key)
        if one is None:
            continue
        if found is not None and found.names != one.names:
            raise DataError(f"{found.place} and {one.place} have different {key}; read one folder at a time")
        samples = {**(found.samples if found else {}), **one.samples}
        found = ShardIndex(found.place if found else one.place, one.names, samples)
    return found


def _read_index(paths: Sequence[str], split: str, key: str) -> ShardIndex | None:
    """The index of one folder's shards."""
    import fsspec

    filesystem, first = fsspec.core.url_to_fs(paths[0])
    folder = os.path.dirname(first)
    place = os.path.join(folder, f"{split}.index.json")
    if not filesystem.exists(place):
        return None
    with filesystem.open(place, "rb") as opened:
        content = opened.read(MAX_JSON + 1)  # a server may go on for ever
    try:
        index: dict[str, Any] = parse_json(content)
        listed = tuple(map(str, index[key]))
        stated = {
            str(shard["file"]): (int(shard["samples"]), int(shard["bytes"])) for shard in index["shards"]
        }
    except (ValueError, LookupError, TypeError, OverflowError) as error:
        raise DataError(
            f"{place}: not an index of shards ({error!r}); remove it, or write the shards with "
            "hornet-data pack"
        ) from error
    if away := [name for name in stated if os.path.basename(name) != name]:
        raise DataError(f"{place}: names {away[0]!r}, which is no file beside it; remove it")
    names = [os.path.basename(path) for path in paths]
    faults = [
        f"{name} is missing"
        for name in stated
        if name not in names and not filesystem.exists(os.path.join(folder, name))
    ]
    faults += [f"{name} is not in it" for name in names if name not in stated]
    known = [name for name in names if name in stated]
    sizes = filesystem.sizes([os.path.join(folder, name) for name in known])
    faults += [
        f"{name} has {size:,} bytes, not {stated[name][1]:,}"
        for name, size in zip(known, sizes, strict=True)
        if size is not None and size != stated[name][1]  # None: a server that does not say
    ]
    _refuse(place, faults)
    return ShardIndex(place, listed, {path: stated[name][0] for path, name in zip(paths, names, strict=True)})


def _refuse(place: str, faults: Sequence[str]) -> None:
    if faults:
        raise DataError(
            f"{place} does not fit the shards beside it: {preview(faults)}; fetch what is missing or cut off "
            "again, or pack them again"
        )


def check_numbered(paths: Sequence[str]) -> None:
    """Raises DataError where, of local shards called `...-00001-of-00003`, some are not there."""
    if missing := list(_missing(paths)):
        raise DataError(
            f"{len(missing)} of the shards that the others' names count are missing: {preview(missing)}; "
            "fetch them, or, if fewer are meant, rename the others"
        )


def _missing(paths: Sequence[str]) -> Iterator[str]:
    series: dict[tuple[str, str], set[str]] = {}
    for path in paths:
        if match := re.fullmatch(r"(.*)-(\d+)-of-(\d+)[^\d/][^/]*", path):
            series.setdefault((match[1], match[3]), set()).add(match[2])
    for (prefix, total), numbers in series.items():
        width = len(next(iter(numbers)))
        last = f"{int(total):0{width}d}"
        first = 1 if last in numbers else 0  # some count from 1
        for k in range(first, first + int(total)):
            name = f"{prefix}-{k:0{width}d}-of-{total}"
            if f"{k:0{width}d}" not in numbers and not glob.glob(f"{glob.escape(name)}*"):
                yield f"{name}.*"
