"""Pictures with masks in tables that Hugging Face's `datasets` reads: of the hub, or of files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hornet_train.data.sources.columns import (
    check_column,
    flat_features,
    is_binary,
    is_bytes_and_path,
    is_image,
    only_column,
    with_kinds,
)
from hornet_train.data.sources.hub import open_files, open_hub
from hornet_train.data.sources.source import Fields, sha256_of
from hornet_train.data.sources.split_files import find_files, is_local
from hornet_train.data.sources.split_names import split_notes
from hornet_train.data.sources.table_rows import TableRows
from hornet_train.errors import DataError
from hornet_train.tasks.segmentation.mask_coding import MaskCoding
from hornet_train.tasks.segmentation.samples import CODING, IMAGE, MASK

_IMAGES = ("image", "img", "picture", "pixel_values", "jpg")
_MASKS = ("mask", "masks", "label", "annotation", "annotations", "segmentation", "semantic", "png", "seg")


class PairedRows:
    """Rows of a table with a picture and a mask each; see `Source`.

    Attributes:
        notes: one sentence for each thing that a user should know of.
    """

    def __init__(self, rows: TableRows, notes: Sequence[str], coding: MaskCoding | None = None) -> None:
        """`coding`: what the values of the masks mean; None where that is not known yet."""
        self._rows, self.notes, self._coding = rows, tuple(notes), coding

    def __len__(self) -> int:
        return len(self._rows)

    def read(self, index: int) -> Fields:
        return {**self._rows.read(index), CODING: self._coding}

    def locate(self, index: int) -> str:
        return self._rows.locate(index)

    @property
    def folders(self) -> Sequence[Path]:
        """See `Pictures`: its storage is no folder of pictures."""
        return ()

    def name(self, index: int) -> str:
        """See `Pictures`: its number."""
        return f"{index:06d}"

    @property
    def fingerprint(self) -> str:
        """Of the sizes in bytes of pictures and masks, and the meaning of the masks' values."""
        meaning = repr(self._coding and self._coding.meaning).encode()
        return sha256_of(*self._rows.sizes(IMAGE), *self._rows.sizes(MASK), meaning)

    def coded(self, coding: MaskCoding) -> PairedRows:
        """The same with a meaning of the masks' values: another meaning makes other samples."""
        return PairedRows(self._rows, self.notes, coding)


def open_rows(
    name: str,
    split: str,
    config_name: str | None,
    revision: str | None,
    image_column: str | None,
    mask_column: str | None,
) -> PairedRows:
    """Open a split; the first time, it is downloaded or converted into the cache of `datasets`.

    Args:
        name: the id of a hub data set, or a folder, file, pattern or URL.
        split: `train`, `validation` and so on.
        config_name, revision: of a hub data set.
        image_column, mask_column: None: found by types and names.

    Raises:
        DataError: it cannot be had, or has no such columns.
    """
    if is_local(name, config_name, revision):
        files = find_files(name, split)
        table = open_files(files, name)
    else:
        table = open_hub(name, split, config_name, revision)
    where = f"data.name={table.name}, split {table.split}"
    image, mask = _columns(flat_features(table.rows.features), where, image_column, mask_column)
    rows = TableRows(table, files={IMAGE: image, MASK: mask}, numbers={})
    return PairedRows(rows, split_notes(split, table.split))


def _columns(flat: Mapping[str, Any], where: str, image: str | None, mask: str | None) -> tuple[str, str]:
    """The columns of pictures and of masks."""
    kinds = (is_image, is_binary, is_bytes_and_path)
    for what, named in (("image", image), ("mask", mask)):
        if named is not None:
            check_column(named, flat, where, what=what, wanted="pictures", kinds=kinds)
    pictures = [name for name, feature in flat.items() if is_image(feature) or is_bytes_and_path(feature)]
    pictures = pictures or [name for name, feature in flat.items() if is_binary(feature)]
    mask = mask or _one_of(pictures, _MASKS, image, where, "mask")
    image = image or _one_of(pictures, _IMAGES, mask, where, "image")
    if image is None or mask is None:
        raise DataError(
            f"{where} has no columns of pictures and of masks but {with_kinds(flat)}: "
            "data.image_column= and data.mask_column= name them"
        )
    return image, mask


def _one_of(
    pictures: Sequence[str], usual: Sequence[str], other: str | None, where: str, what: str
) -> str | None:
    """The column of a usual name, else the only one that is left."""
    left = [name for name in pictures if name != other]
    named = [name for name in left if name.rpartition(".")[2].lower() in usual]
    if named:
        return only_column(named, where, what=what)
    return left[0] if len(left) == 1 and other is not None else None
