"""Hugging Face `datasets` with random access: of the hub, or parquet, arrow and webdataset files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hornet_train.data.sources.columns import class_names, find_columns
from hornet_train.data.sources.files import Files, find_files, is_local, is_url
from hornet_train.data.sources.hub_errors import hub_told
from hornet_train.data.sources.index import read_index
from hornet_train.data.sources.source import sha256_of
from hornet_train.errors import DataError, SampleError
from hornet_train.images.decode import decode, read_image

_TAR_LABELS = (None, "cls", "json.label")  # what a scan of tars finds; other columns only `datasets` does


class HubSource:
    """One split of a data set that `datasets` reads, memory-mapped from its cache.

    Nothing goes through the formatting of `datasets`: a row is looked up in the mapped table, and its bytes
    are decoded as those of any other file.

    Attributes:
        classes: class names in label order.
        split: its name as the data set spells it.
    """

    def __init__(
        self,
        path_or_name: str,
        split: str,
        *,
        config_name: str | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        revision: str | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        """Open the split; the first time, it is downloaded or converted into the cache of `datasets`.

        Args:
            path_or_name: the id of a hub data set, or a folder, file, pattern or URL (see `find_files`).
            split: `train`, `validation` and so on.
            config_name: of a hub data set with several.
            image_column: where types do not tell it.
            label_column: likewise; of tars, where it is neither .cls nor the `label` of .json.
            revision: branch, tag or commit of a hub data set; None: the newest.
            classes: of the training split, for labels that are stored as plain numbers without names.

        Raises:
            DataError: it cannot be had, or is not of labelled images.
        """
        files = index = None
        self._folders = _caches()
        if is_local(path_or_name, config_name, revision):
            files = find_files(path_or_name, split)
            self.split = files.split
            if not is_url(files.paths[0]):
                self._folders += [os.path.realpath(os.path.dirname(path)) for path in files.paths[:1]]
            index = read_index(files.paths, self.split)
            if files.format == "webdataset" and image_column is None and label_column in _TAR_LABELS:
                _check_tars(files)
            self._data = _open_files(files, path_or_name)
            if index is not None:
                index.check_total(files.paths, len(self._data))
        else:
            self.split = split
            self._data = _open_hub(path_or_name, split, config_name, revision)
        self._name = path_or_name
        where = f"data.name={path_or_name}, split {self.split}"
        columns = find_columns(self._data.features, where, image=image_column, label=label_column)
        self._columns = (columns.image, columns.label)
        self._labels = _labels_of(self._data.data.table, columns.label, where)
        names = columns.names
        if names is None and index is not None:
            names = index.classes
        self.classes = class_names(self._labels, where, names=names, given=classes)
        self._map()

    def __len__(self) -> int:
        return len(self._labels)

    def read(self, index: int) -> tuple[Tensor, int]:
        encoded, path = self._row(index)
        if encoded is not None:
            return decode(encoded, self.locate(index)), int(self._labels[index])
        if not path:
            raise SampleError(self.locate(index), "the row holds no image", "remove it")
        if not self._is_inside(path):
            raise SampleError(
                self.locate(index),
                "the row names a file outside of the data set",
                "keep the images' bytes in the rows (hornet-data pack)",
            )
        return read_image(path), int(self._labels[index])

    def locate(self, index: int) -> str:
        path = self._row(index, with_bytes=False)[1]
        return f"{self._name}, split {self.split}, row {index}" + (f" ({path})" if path else "")

    def _is_inside(self, path: str) -> bool:
        """Whether a file lies in the data set's folder or a cache of Hugging Face's, links followed."""
        real = Path(os.path.realpath(path))
        return any(real.is_relative_to(folder) for folder in self._folders)

    @property
    def fingerprint(self) -> str:
        """Of labels, image sizes in bytes and class names: the same wherever the rows are kept."""
        sizes = [_sizes(chunk, paths) for chunk, paths in zip(self._bytes, self._paths, strict=True)]
        return sha256_of(self._labels, *sizes, repr(self.classes).encode())

    def _map(self) -> None:
        """Look the chunks of the mapped table up once, not for each row."""
        chunks = _column(self._data.data.table, self._columns[0])
        struct = bool(chunks) and _is_struct(chunks[0])
        self._bytes = [chunk.field("bytes") if struct else chunk for chunk in chunks]
        self._paths = [chunk.field("path") if struct else None for chunk in chunks]
        self._ends = np.cumsum([len(chunk) for chunk in chunks])

    def _row(self, index: int, *, with_bytes: bool = True) -> tuple[bytes | None, str | None]:
        """(the image file's bytes, its path) as far as the row has them."""
        chunk = int(np.searchsorted(self._ends, index, side="right"))
        at = index - (int(self._ends[chunk - 1]) if chunk else 0)
        paths = self._paths[chunk]
        path = None if paths is None else paths[at].as_py()
        return self._bytes[chunk][at].as_py() if with_bytes else None, path

    def __getstate__(self) -> dict[str, Any]:
        """To a worker go the names of the mapped files, not what they hold."""
        mapped = ("_bytes", "_paths", "_ends")
        return {name: value for name, value in self.__dict__.items() if name not in mapped}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._map()


def _caches() -> list[str]:
    """Where `datasets` puts the files of data sets that it unpacks."""
    import datasets
    from huggingface_hub import constants

    config = datasets.config
    places = (config.HF_DATASETS_CACHE, config.DOWNLOADED_DATASETS_PATH, constants.HF_HUB_CACHE)
    return [os.path.realpath(place) for place in places]


def _check_tars(files: Files) -> None:
    """Raises DataError where a sample of local tars is not whole: `datasets` does not tell which."""
    from hornet_train.data.sources.tars import scanned  # which is above this module

    if not is_url(files.paths[0]):
        scanned(files.paths)


def _open_files(files: Files, name: str) -> Any:
    """The `datasets.Dataset` of one split's files."""
    import datasets

    if files.saved is not None:
        with hub_told(name):
            return datasets.load_from_disk(str(files.saved))
    return _prepared(name, files.split, path=files.format, data_files={files.split: list(files.paths)})


def _open_hub(name: str, split: str, config_name: str | None, revision: str | None) -> Any:
    return _prepared(name, split, path=name, config_name=config_name, revision=revision)


def _prepared(
    name: str,
    split: str,
    *,
    path: str,
    config_name: str | None = None,
    data_files: dict[str, list[str]] | None = None,
    revision: str | None = None,
) -> Any:
    """What `datasets.load_dataset` does, with the split checked before gigabytes are fetched."""
    import datasets

    with hub_told(name, revision=revision):
        builder = datasets.load_dataset_builder(
            path, name=config_name, data_files=data_files, revision=revision
        )
    check_split(builder, name, split)
    with hub_told(name, revision=revision) as watched:
        if watched:
            datasets.utils.enable_progress_bars()
        builder.download_and_prepare()
        datasets.utils.disable_progress_bars()
        return builder.as_dataset(split=split)


def check_split(builder: Any, name: str, split: str) -> None:
    """Raises DataError where a builder of `datasets` knows its splits and this is none of them."""
    known = [str(name) for name in builder.config.data_files or builder.info.splits or ()]
    if not known or split in known:
        return
    held_out = [other for other in ("validation", "val", "dev", "test") if other in known]
    advice = f"data.val_split={held_out[0]} holds that out, " if split != "train" and held_out else ""
    none = "data.val_split=null holds nothing out" if split != "train" else "data.train_split= chooses one"
    raise DataError(f"data.name={name} has no split {split!r} but: {', '.join(known)}; {advice}{none}")


def _column(table: Any, name: str) -> list[Any]:
    """The chunks of a column, or of a field of a column."""
    column, _, field = name.partition(".")
    if name in table.column_names:
        column, field = name, ""
    chunks = table.column(column).chunks
    return [chunk.field(field) for chunk in chunks] if field else chunks


def _is_struct(chunk: Any) -> bool:
    import pyarrow

    return bool(pyarrow.types.is_struct(chunk.type))


def _labels_of(table: Any, column: str, where: str) -> np.ndarray[Any, np.dtype[np.int64]]:
    """int64 (rows,). Raises DataError where one is missing."""
    parts = [np.empty(0, dtype=np.int64)]
    for chunk in _column(table, column):
        if chunk.null_count:
            raise DataError(f"{where}: {chunk.null_count} rows have no label; remove them")
        parts.append(chunk.to_numpy(zero_copy_only=False).astype(np.int64))
    return np.concatenate(parts)


def _sizes(encoded: Any, paths: Any) -> Any:
    """Bytes of each image of a chunk, from the offsets alone, or the file names where there are no bytes."""
    import pyarrow.compute

    if paths is not None and encoded.null_count:
        names = [os.path.basename(path or "") for path in paths.to_pylist()]
        return repr(names).encode()
    lengths = pyarrow.compute.binary_length(encoded).fill_null(0)
    return lengths.to_numpy(zero_copy_only=False).astype(np.int64)
