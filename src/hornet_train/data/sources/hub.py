"""Data sets opened by Hugging Face's `datasets`: of the hub, or parquet, arrow and webdataset files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hornet_train.data.sources.split_files import Files, format_of, is_url
from hornet_train.data.sources.split_names import choices, find_split
from hornet_train.data.sources.storage_errors import hub_errors
from hornet_train.errors import DataError


@dataclass(frozen=True)
class OpenedTable:
    """One split of a data set, memory-mapped from the cache of `datasets`.

    Attributes:
        name: of the data set, as `data.name` gives it.
        split: its name as the data set spells it.
        rows: the `datasets.Dataset`.
        folders: where files may lie that rows name, links followed.
    """

    name: str
    split: str
    rows: Any
    folders: tuple[str, ...]

    def allows(self, path: str) -> bool:
        """Whether a file lies in the data set's folder or a cache of Hugging Face's, links followed."""
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(folder) for folder in self.folders)


def open_files(files: Files, name: str) -> OpenedTable:
    """Open one split's files; the first time, they are converted into the cache of `datasets`.

    Args:
        files: of the split.
        name: as `data.name` gives it, for messages.

    Raises:
        DataError: they cannot be read.
    """
    import datasets

    folders = _caches()
    if not is_url(files.paths[0]):
        folders += [os.path.realpath(os.path.dirname(path)) for path in files.paths[:1]]
    if files.saved is not None:
        with hub_errors(name):
            rows = datasets.load_from_disk(str(files.saved))
    else:
        chosen = {files.split: list(files.paths)}
        _, rows = _prepared(name, files.split, path=files.format, data_files=chosen)
    return OpenedTable(name, files.split, rows, tuple(folders))


def open_hub(name: str, split: str, config_name: str | None, revision: str | None) -> OpenedTable:
    """Open a split of a hub data set; the first time, it is downloaded.

    Raises:
        DataError: it cannot be had.
    """
    folders = tuple(_caches())
    spelling, rows = _prepared(name, split, path=name, config_name=config_name, revision=revision)
    return OpenedTable(name, spelling, rows, folders)


def files_on_hub(name: str, split: str, config_name: str | None, revision: str | None) -> tuple[Files, Any]:
    """The files of a hub data set at one commit, to be streamed, and the features that its card lists.

    Raises:
        DataError: it cannot be had.
    """
    import datasets

    with hub_errors(name, revision=revision):
        builder = datasets.load_dataset_builder(name, name=config_name, revision=revision)
    split = check_split(builder, name, split)
    urls = [str(url) for url in (builder.config.data_files or {}).get(split, ())]
    if not urls:
        raise DataError(
            f"data.name={name} is in the local cache, but not its files on the hub, which streaming reads: "
            "data.streaming=false"
        )
    kind = format_of(urls, f"data.name={name}, split {split}")
    return Files(kind, tuple(urls), split), builder.info.features


def check_split(builder: Any, name: str, split: str) -> str:
    """The split as a builder of `datasets` spells it. Raises DataError where it knows its splits, and this is
    none of them."""
    known = [str(name) for name in builder.config.data_files or builder.info.splits or ()]
    found = find_split(split, known) if known else split
    if found is None:
        raise DataError(
            f"data.name={name} has no split {split!r} but: {', '.join(known)}; {choices(split, known)}"
        )
    return found


def _caches() -> list[str]:
    """Where `datasets` puts the files of data sets that it unpacks."""
    import datasets
    from huggingface_hub import constants

    config = datasets.config
    places = (config.HF_DATASETS_CACHE, config.DOWNLOADED_DATASETS_PATH, constants.HF_HUB_CACHE)
    return [os.path.realpath(place) for place in places]


def _prepared(
    name: str,
    split: str,
    *,
    path: str,
    config_name: str | None = None,
    data_files: dict[str, list[str]] | None = None,
    revision: str | None = None,
) -> tuple[str, Any]:
    """(the split's name, what `datasets.load_dataset` gives); the split is checked before gigabytes come."""
    import datasets

    with hub_errors(name, revision=revision):
        builder = datasets.load_dataset_builder(
            path, name=config_name, data_files=data_files, revision=revision
        )
    split = check_split(builder, name, split)
    with hub_errors(name, revision=revision) as watched:
        if watched:
            datasets.utils.enable_progress_bars()
        builder.download_and_prepare()
        datasets.utils.disable_progress_bars()
        return split, builder.as_dataset(split=split)
