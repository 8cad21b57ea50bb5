"""Which columns of a table hold the images and the labels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hornet_train.data.sources.columns import (
    choose_column,
    flat_features,
    is_binary,
    is_bytes_and_path,
    is_image,
    is_integer,
)
from hornet_train.tasks.classification.sources.labelled import IMAGE, LABEL


@dataclass(frozen=True)
class Columns:
    """Names of columns; `json.label` is the field `label` of column `json`.

    Attributes:
        names: class names in label order; None for labels that are plain numbers.
    """

    image: str
    label: str
    names: tuple[str, ...] | None


def find_columns(
    features: Mapping[str, Any], where: str, *, image: str | None = None, label: str | None = None
) -> Columns:
    """The image column and the label column, by their types or as named.

    An image column is one of `datasets`' Image type, or else one of {bytes, path}, or else one of binary
    values; a label column one of ClassLabel type, or else one of integers.

    Args:
        features: `datasets.Features`.
        where: the data set, for messages.
        image: its name, where types leave it open (`data.image_column`).
        label: likewise (`data.label_column`).

    Raises:
        DataError: there is none, or several, or the named one is not there or of another type.
    """
    import datasets

    def is_label(kind: Any) -> bool:
        return isinstance(kind, datasets.ClassLabel)

    flat = flat_features(features)
    images = choose_column(
        flat,
        where,
        what=IMAGE,
        wanted="images",
        named=image,
        kinds=(is_image, is_bytes_and_path, is_binary),
    )
    labels = choose_column(
        flat,
        where,
        what=LABEL,
        wanted="class labels or integers",
        named=label,
        kinds=(is_label, is_integer),
    )
    names = tuple(flat[labels].names) if is_label(flat[labels]) else None
    return Columns(images, labels, names)
