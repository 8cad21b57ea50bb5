"""Which columns of a table hold the images and the labels, and what the labels mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hornet_train.data.sources.listing import preview
from hornet_train.errors import DataError, did_you_mean

Labels = np.ndarray[Any, np.dtype[np.int64]]


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

    flat = dict(features)
    for name, feature in features.items():
        if isinstance(feature, dict) and not _is_encoded(feature):
            flat |= {f"{name}.{field}": kind for field, kind in feature.items()}

    def is_label(kind: Any) -> bool:
        return isinstance(kind, datasets.ClassLabel)

    def is_integer(kind: Any) -> bool:
        return isinstance(kind, datasets.Value) and "int" in kind.dtype

    def is_image(kind: Any) -> bool:
        return isinstance(kind, datasets.Image)

    def is_binary(kind: Any) -> bool:
        return isinstance(kind, datasets.Value) and kind.dtype in ("binary", "large_binary")

    images = _choose(flat, where, "image", image, (is_image, _is_encoded, is_binary))
    labels = _choose(flat, where, "label", label, (is_label, is_integer))
    names = tuple(flat[labels].names) if is_label(flat[labels]) else None
    return Columns(images, labels, names)


def _is_encoded(feature: Any) -> bool:
    return isinstance(feature, dict) and {"bytes", "path"} == set(feature)


def _choose(
    flat: Mapping[str, Any], where: str, what: str, named: str | None, kinds: Sequence[Callable[[Any], bool]]
) -> str:
    if named is not None:
        if named not in flat:
            raise DataError(
                f"data.{what}_column={named}: {where} has no such column; {did_you_mean(named, flat)}"
            )
        if not any(kind(flat[named]) for kind in kinds):
            wanted = "images" if what == "image" else "class labels or integers"
            raise DataError(f"data.{what}_column={named}: {where} holds {flat[named]} there, not {wanted}")
        return named
    for kind in kinds:
        found = [name for name, feature in flat.items() if kind(feature)]
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(
                f"{where} has {len(found)} columns that may be the {what}: {', '.join(found)}; "
                f"choose one, as in data.{what}_column={found[0]}"
            )
    raise DataError(
        f"{where} has no {what} column that its types tell; it has: {preview(list(flat))}; "
        f"name it with data.{what}_column="
    )


def class_names(
    labels: Labels, where: str, *, names: Sequence[str] | None, given: Sequence[str] | None
) -> tuple[str, ...]:
    """The classes that labels are of: `names`, or `given`, or the numbers 0 to the largest label.

    Args:
        labels: int64 (samples,), or the distinct ones of these.
        where: the data set, for messages.
        names: as stored with the labels.
        given: those of the training split, where none are stored.

    Raises:
        DataError: a label is negative (as of a split whose labels are withheld) or beyond the names, or
            plain numbers leave some between 0 and the largest out.
    """
    distinct = np.unique(labels)
    if not len(distinct):
        raise DataError(f"{where} has no samples; choose another split, or fetch it again")
    low, high = int(distinct[0]), int(distinct[-1])
    if low < 0:
        raise DataError(
            f"{where} has samples labelled {low}: their labels are withheld; choose another split"
        )
    known = names if names is not None else given
    if known is not None:
        if high >= len(known):
            raise DataError(
                f"{where} has a sample labelled {high}, but there are {len(known)} classes, from 0 on; "
                "mend the labels, or the class names that are stored with them"
            )
        return tuple(known)
    if len(distinct) != high + 1:
        absent = preview([str(k) for k in np.setdiff1d(np.arange(len(distinct) + 1), distinct)[:6]])
        raise DataError(
            f"{where} has labels from 0 to {high}, but none is {absent}: labels are 0, 1, ... without a gap; "
            "number them so, or name the classes (a ClassLabel column, or an index.json beside the shards)"
        )
    return tuple(str(label) for label in range(high + 1))
