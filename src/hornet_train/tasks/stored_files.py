"""The image files of a data set and what belongs to each: a task lists them for `hornet-data`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from hornet_train.data.sources.packed import PackedPaths

Value = int | str | bytes


@dataclass
class ImageFiles:
    """The image files of one split.

    Attributes:
        name: `train`, `val` and so on.
        folder: the folder of the split.
        paths: the images, relative to `folder`.
    """

    name: str
    folder: Path
    paths: PackedPaths = field(default_factory=PackedPaths)

    def locate(self, index: int) -> Path:
        """The path of image `index`."""
        return self.folder / os.fsdecode(self.paths[index])


@dataclass
class FilesFound:
    """What a task finds out about a data set from the names of its files, and its small files, alone.

    Attributes:
        splits: the images, by split.
        training: the split whose damaged images a training replaces; None if none of them is trained on.
        lines: what was found, in order.
        warnings: what the user should look at.
        faults: why the data set cannot be used as it is; empty if it can.
        evaluates: if this is a known evaluation set, the command that evaluates on it.
        upright: whether pictures are turned as their EXIF orientation says where they then fit what is
            annotated, of which the task tells what there is to tell.
    """

    splits: list[ImageFiles] = field(default_factory=list)
    training: str | None = None
    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    evaluates: str | None = None
    upright: bool = False


@dataclass(frozen=True)
class StoredField:
    """What a packed sample holds beside its image.

    Attributes:
        name: of its column in parquet, such as `label`.
        suffix: of its file in a tar, such as `.cls`.
        kind: a number (in a tar in decimal digits), text (UTF-8), or bytes.
        feature: the column as Hugging Face's `datasets` describes it in JSON.
    """

    name: str
    suffix: str
    kind: Literal["int", "text", "bytes"]
    feature: Mapping[str, Any]

    def encode(self, value: Value) -> bytes:
        """A value as the content of a file."""
        return value if isinstance(value, bytes) else str(value).encode()

    def decode(self, content: bytes) -> Value:
        """The value that `encode` was given.

        Raises:
            ValueError: the content is not of this kind.
        """
        if self.kind == "bytes":
            return content
        return int(content) if self.kind == "int" else content.decode()


@dataclass
class FilesToPack(ImageFiles):
    """The image files of one split with what is packed beside each.

    Attributes:
        fields: what a sample holds beside its image.
        values: index -> these, in the order of `fields`.
        facts: what the index of the shards says of the split, such as its classes.
        fingerprint: of the paths and the values; a packing goes on only with the same.
        not_packed: what in the folder is left out, and how much.
    """

    fields: tuple[StoredField, ...] = ()
    values: Callable[[int], tuple[Value, ...]] = lambda _: ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: str = ""
    not_packed: list[str] = field(default_factory=list)


class DataFiles(Protocol):
    """What a task knows of its data sets on disk, by the names of their files."""

    def check_files(self, root: Path, splits: tuple[str, ...], *, open_files: bool) -> FilesFound:
        """What the names of the files say of a data set, for `hornet-data check`.

        Args:
            root: the folder that contains `splits`, or one split itself.
            splits: names of folders in it, that of the training images first; missing ones are skipped.
            open_files: False leaves pictures and masks unopened, but where their sizes or classes are to be
                found in nothing else.

        Raises:
            DataError: there is nothing to check.
            ConfigError: the task has no data sets of files.
        """

    def list_files(self, folder: Path, name: str, labels: Path | None) -> FilesToPack:
        """The images of a split with what belongs to each, for `hornet-data pack`.

        Args:
            folder: of the split.
            name: of the split.
            labels: a file with the labels, where they do not follow from the names of the images.

        Raises:
            DataError: the split has faults.
            ConfigError: a file with labels for a split that has them, or the task has no data sets of files.
        """
