"""Parquet, arrow and tar files, by path or URL: which of them are those of a split."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hornet_train.data.sources.index import check_numbered
from hornet_train.data.sources.listing import preview
from hornet_train.data.sources.split_names import KNOWN, choices, find_split, spellings
from hornet_train.data.sources.storage_errors import file_errors, hub_errors
from hornet_train.errors import DataError
from hornet_train.file_names import as_text
from hornet_train.untrusted import MAX_JSON, MB, parse_json, read_within

Format = Literal["parquet", "arrow", "webdataset"]

_FORMATS: Mapping[str, Format] = {".parquet": "parquet", ".arrow": "arrow", ".tar": "webdataset"}
_PROTOCOLS = (
    "hf",
    "http",
    "https",
    "s3",
    "s3a",
    "gs",
    "gcs",
    "az",
    "abfs",
    "abfss",
    "sftp",
    "file",
    "memory",
)


@dataclass(frozen=True)
class Files:
    """The files of one split, in the order of their samples.

    Attributes:
        paths: local paths or URLs.
        split: the split's name as the files spell it.
        saved: the folder that `save_to_disk` wrote them to; None for other files.
    """

    format: Format
    paths: tuple[str, ...]
    split: str
    saved: Path | None = None


def format_of(paths: Iterable[str], where: str) -> Format:
    """The one format of all files. Raises DataError where there are several, or none that we read."""
    suffixes = sorted({os.path.splitext(path)[1].lower() for path in paths})
    if len(suffixes) == 1 and suffixes[0] in _FORMATS:
        return _FORMATS[suffixes[0]]
    raise DataError(
        f"{where}: its files are {', '.join(suffix or 'without a suffix' for suffix in suffixes)}; one kind "
        f"of {', '.join(_FORMATS)} is read: give a pattern, as in data.name='<folder>/*.parquet'"
    )


def is_local(name: str, config_name: str | None = None, revision: str | None = None) -> bool:
    """Whether `data.name` means files, of this machine or by URL, rather than a data set of the hub.

    Raises:
        DataError: it does, and a config or a revision is asked for, which these do not have.
    """
    if is_url(name):
        _check_protocol(name)
    expanded = os.path.expanduser(name)
    local = (
        is_url(name)
        or os.path.exists(expanded)
        or glob.has_magic(name)
        or name.startswith(("/", ".", "~"))
        or name.count("/") > 1
        or os.path.splitext(name)[1] in _FORMATS
    )
    for key, value in (("config", config_name), ("revision", revision)):
        if local and value is not None:
            what = "a URL" if is_url(name) else "local"
            raise DataError(f"data.{key}={value} is of hub data sets, but data.name={name} is {what}: null")
    return local


def _check_protocol(url: str) -> None:
    """Raises DataError for a URL that is not simply a place. fsspec also knows some that unpack archives, run
    commands, follow references, or go through one another (`::`), and a checkpoint may name what it likes."""
    protocol = url.partition("://")[0]
    if protocol not in _PROTOCOLS or "::" in url:
        known = ", ".join(_PROTOCOLS)
        raise DataError(f"data.name={url} cannot be read: it takes {known} and no `::`, not {protocol}")


def is_url(name: str) -> bool:
    return "://" in name


def find_files(name: str, split: str) -> Files:
    """The files of a split in a folder, or among those that a pattern matches.

    A file belongs to the split that a folder on its path is called (`train/0.parquet`) or that its own name
    begins with (`train-00000-of-00009.parquet`), or, where no file's does, has in it (`mnist_train.parquet`);
    where no file names a split, all are those of `train`. `validation`, `val`, `valid` and `dev` are one
    split, for which `test` stands in. A folder written by `save_to_disk` names its own.

    Args:
        name: a folder, a file, or a pattern with `*`, `?`, `[...]` or `**`; or a URL of such, as far as
            fsspec lists what is there (`hf://datasets/<owner>/<name>/data/*.parquet`).
        split: a name such as `train`.

    Raises:
        DataError: there are none, some are missing, or they are of several formats.
    """
    given = os.path.expanduser(name)
    if is_url(name):
        base, below = _listed(name)
    elif os.path.isdir(given):
        if (saved := _saved(Path(given), split)) is not None:
            return saved
        base, below = given, glob.glob("**", root_dir=given, recursive=True)
    elif os.path.exists(given):
        base, file = os.path.split(given)
        below = [file]
    elif glob.has_magic(given):
        base, pattern = _fixed_part(given)
        below = glob.glob(pattern, root_dir=base or None, recursive=True)
    else:
        raise DataError(
            f"data.name={name} does not exist; give a folder, a pattern or the id of a hub data set"
        )
    found = sorted(path for path in below if os.path.splitext(path)[1].lower() in _FORMATS)
    if not found:
        raise DataError(
            f"data.name={name} has no {', '.join(_FORMATS)} files; data=folder reads class folders"
        )
    spelling, chosen = _of_split(found, split)
    if not chosen:
        raise DataError(
            f"data.name={name} has no files of split {split!r} (a folder {split}/ or names that begin with "
            f"{split}); {_choices(found, split)}"
        )
    where = f"data.name={name}, split {split}"
    paths = tuple(os.path.join(base, path) for path in chosen)
    if not is_url(name):
        check_numbered(paths)
    kind = format_of(chosen, where)
    if kind == "arrow":
        _check_text(paths)
    return Files(kind, paths, spelling)


def _listed(url: str) -> tuple[str, list[str]]:
    """(a URL, paths of files below it) of a far file, folder or pattern.

    Raises:
        DataError: there is none, or it cannot be reached.
    """
    import fsspec

    try:
        filesystem, place = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:  # no such protocol, or one that needs another package
        raise DataError(f"data.name={url} cannot be read: {error}") from error
    with hub_errors(url) if url.startswith("hf://") else file_errors(url):
        if glob.has_magic(place):
            base, places = _fixed_part(place)[0], filesystem.glob(place)
        elif filesystem.isfile(place):
            base, places = os.path.dirname(place), [place]
        else:
            base, places = place.rstrip("/"), filesystem.find(place)
    if not places:
        raise DataError(f"data.name={url}: there are no such files")
    return filesystem.unstrip_protocol(base), [path.removeprefix(base).lstrip("/") for path in places]


def _saved(folder: Path, split: str) -> Files | None:
    """What `save_to_disk` wrote: one split, or a folder for each."""
    try:
        if (folder / "dataset_dict.json").is_file():
            splits = list(map(str, parse_json(read_within(folder / "dataset_dict.json", MB))["splits"]))
            spelling = find_split(split, splits)
            if spelling is None:
                raise DataError(
                    f"data.name={folder} has no split {split!r}; there are: {', '.join(splits)}; "
                    f"{choices(split, splits)}"
                )
            return _saved_split(folder / spelling, spelling)
        if (folder / "state.json").is_file():
            named = parse_json(read_within(folder / "state.json", MAX_JSON)).get("_split") or "train"
            if find_split(split, [named]) is None:
                raise DataError(
                    f"data.name={folder} is of split {named!r} only, not {split!r}: "
                    f"{choices(split, [named])}, or save a DatasetDict of both"
                )
            return _saved_split(folder, named)
    except (ValueError, LookupError, TypeError, AttributeError, OSError) as error:
        raise DataError(f"data.name={folder}: what save_to_disk wrote is damaged ({error})") from error
    return None


def _saved_split(folder: Path, split: str) -> Files:
    files = parse_json(read_within(folder / "state.json", MAX_JSON))["_data_files"]
    names = [str(file["filename"]) for file in files]
    if away := [name for name in names if os.path.basename(name) != name or name in ("", "..")]:
        raise DataError(f"{folder / 'state.json'} names {away[0]!r}, which is no file beside it")
    paths = tuple(str(folder / name) for name in names)
    _check_text(paths)
    return Files("arrow", paths, split, folder)


def _check_text(paths: Iterable[str]) -> None:
    """Raises DataError for a name that is not UTF-8: pyarrow maps no such file."""
    if odd := [path for path in paths if as_text(path) != path]:
        raise DataError(f"{odd[0]}: arrow files under names that are not UTF-8 are not read; rename it")


def _of_split(paths: list[str], split: str) -> tuple[str, list[str]]:
    """(its name as the files spell it, its files)."""
    for tells in (_tells, _has):
        for spelling in spellings(split):
            if chosen := [path for path in paths if tells(path, spelling)]:
                return spelling, chosen
        if any(tells(path, known) for path in paths for known in KNOWN):
            return split, []
    return split, paths if split == "train" else []


def _choices(paths: list[str], split: str) -> str:
    """What there is in place of a split, and what to type."""
    tells = _tells if any(_tells(path, known) for path in paths for known in KNOWN) else _has
    present = [known for known in KNOWN if any(tells(path, known) for path in paths)]
    begins = sorted({found[0] for path in paths if (found := re.match("[^._-]+", os.path.basename(path)))})
    if present or len(begins) < 2:
        present = present or ["train"]
        return f"there are files of: {', '.join(present)}; {choices(split, present)}"
    return (
        f"no file's name tells a split, so that all are to train on ({preview(begins)}): "
        f"data.train_split={begins[0]} data.val_split={begins[1]} chooses by how names begin, "
        "data.val_split=null holds nothing out"
    )


def _tells(path: str, split: str) -> bool:
    """Whether a folder on the path is called so, or the file's name begins so; upper and lower case alike."""
    *folders, name = Path(path.casefold()).parts
    split = split.casefold()
    return split in folders or re.match(rf"{re.escape(split)}(?![a-z0-9])", name) is not None


def _has(path: str, split: str) -> bool:
    """Whether the name of the file has it as a word."""
    name = Path(path.casefold()).name
    return re.search(rf"(?<![a-z0-9]){re.escape(split.casefold())}(?![a-z0-9])", name) is not None


def _fixed_part(pattern: str) -> tuple[str, str]:
    """(folder, what to match in it): split before the first part that has a wildcard."""
    parts = Path(pattern).parts
    first = next(k for k, part in enumerate(parts) if glob.has_magic(part))
    return os.path.join(*parts[:first]) if first else "", os.path.join(*parts[first:])
