"""Which columns of a table hold the images and the labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hornet_train.data.sources.column_values import ColumnValues
from hornet_train.data.sources.columns import (
    check_column,
    flat_features,
    is_binary,
    is_bytes_and_path,
    is_image,
    is_integer,
    is_scalar,
    kind_name,
    only_column,
    with_kinds,
)
from hornet_train.errors import DataError
from hornet_train.tasks.classification.sources.label_values import are_among, look_like_classes, too_many
from hornet_train.tasks.classification.sources.labelled import IMAGE, LABEL

# what columns of labels are called, the surest names first; of those in one row none goes before another
_USUAL = (
    ("cls",),
    ("label",),
    (
        *("labels", "class", "classes", "class_id", "class_idx", "class_name", "class_label", "target"),
        *("targets", "category", "categories", "category_id", "label_id", "label_name", "fine_label", "y"),
    ),
)


@dataclass(frozen=True)
class Columns:
    """Names of columns; `json.label` is the field `label` of column `json`.

    Attributes:
        names: class names in label order; None for labels that are plain values.
    """

    image: str
    label: str
    names: tuple[str, ...] | None


def find_columns(
    features: Mapping[str, Any],
    where: str,
    *,
    image: str | None = None,
    label: str | None = None,
    values: Callable[[str], ColumnValues],
    classes: Sequence[str] | None = None,
) -> Columns:
    """The image column and the label column, by their types and names or as chosen.

    An image column is one of `datasets`' Image type, or else one of {bytes, path}, or else one of binary
    values. A label column is one of ClassLabel type, or else one with a usual name (label, class, target),
    or else the only one of integers or of all that has few distinct values.

    Args:
        features: `datasets.Features`.
        where: the data set, for messages.
        image: its name, where types leave it open (`data.image_column`).
        label: likewise (`data.label_column`).
        values: what occurs in a column; asked only where types and names say nothing.
        classes: those that are known from the training split or a checkpoint.

    Raises:
        DataError: there is none, or several, or the chosen one is not there or of another type.
    """
    flat = flat_features(features)
    images = _image_column(flat, where, image)
    labels = _label_column(flat, where, label, values, classes)
    return Columns(images, labels, tuple(flat[labels].names) if _is_label(flat[labels]) else None)


def _is_label(feature: Any) -> bool:
    import datasets

    return isinstance(feature, datasets.ClassLabel)


def _image_column(flat: Mapping[str, Any], where: str, named: str | None) -> str:
    kinds = (is_image, is_bytes_and_path, is_binary)
    if named is not None:
        wanted = "one image a row (images, structs of bytes and path, or binary)"
        check_column(named, flat, where, what=IMAGE, wanted=wanted, kinds=kinds)
        return named
    for kind in kinds:
        found = only_column([name for name, feature in flat.items() if kind(feature)], where, what=IMAGE)
        if found is not None:
            return found
    raise DataError(
        f"{where} has no column with one image a row (images, structs of bytes and path, or binary): it has "
        f"{with_kinds(flat)}; write it so, with cast_column of datasets or hornet-data pack"
    )


def _label_column(
    flat: Mapping[str, Any],
    where: str,
    named: str | None,
    values: Callable[[str], ColumnValues],
    classes: Sequence[str] | None,
) -> str:
    if named is not None:
        wanted = "class labels or integers, text and the like, one a row"
        check_column(named, flat, where, what=LABEL, wanted=wanted, kinds=(_is_label, is_scalar))
        return named
    labels = only_column([name for name, feature in flat.items() if _is_label(feature)], where, what=LABEL)
    if labels is not None:
        return labels
    scalars = [name for name, feature in flat.items() if is_scalar(feature) and not name.startswith("__")]
    integers = [name for name in scalars if is_integer(flat[name])]
    if classes is not None and len(integers) == 1 and are_among(values(integers[0]), classes):
        return integers[0]  # a checkpoint of such labels, whatever else is called so
    for usual in _USUAL:
        for among in (integers, scalars):
            named_so = [name for name in among if _last(name) in usual]
            if len(named_so) == 1:
                return named_so[0]
        only_column(named_so, where, what=LABEL)
    _refuse_several_labels(flat, where)
    known = [name for name in scalars if classes is not None and are_among(values(name), classes)]
    if len(known) == 1:
        return known[0]
    if len(integers) == 1 and look_like_classes(values(integers[0])):
        return integers[0]
    few = [name for name in scalars if look_like_classes(values(name))]
    found = only_column(few, where, what=LABEL)
    if found is not None:
        return found
    if len(integers) == 1 and not too_many(values(integers[0])):
        return integers[0]
    raise DataError(
        f"{where} has no column that looks like labels, with one value a row and few distinct ones; it has "
        f"{with_kinds(flat)}; choose one with data.label_column=<name>"
    )


def _refuse_several_labels(flat: Mapping[str, Any], where: str) -> None:
    """Raises DataError where a column that is called like labels does not hold one value a row."""
    usual = {name for row in _USUAL for name in row}
    for name, feature in flat.items():
        if _last(name) not in usual or is_scalar(feature):
            continue
        fields = [field for field in flat if field.startswith(f"{name}.") and is_scalar(flat[field])]
        choices = " or ".join(f"data.label_column={field}" for field in fields)
        raise DataError(
            f"{where}: {name} holds {kind_name(feature)}, but a label is one value a row (several labels an "
            f"image are not supported); {f'choose {choices}' if fields else 'write one label a row'}, or "
            "another column with data.label_column=<name>"
        )


def _last(name: str) -> str:
    """The name of a column, or of a field within one, in lower case."""
    return name.rpartition(".")[2].casefold()
