"""Columns of objects in tables: which they are, what their fields are called, and what their classes are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from hornet_train.data.sources.columns import (
    check_column,
    is_binary,
    is_bytes_and_path,
    is_image,
    only_column,
    with_kinds,
)
from hornet_train.errors import DataError
from hornet_train.tasks.detection.sources.annotated import Category

_IMAGES = ("image", "img", "picture", "pixel_values", "jpg")
_BOXES = ("bbox", "bboxes", "boxes", "box")
_CLASSES = ("category", "categories", "category_id", "category_ids", "label", "labels", "class", "classes")
_OTHERS = {
    "id": ("id", "ids", "bbox_id", "annotation_id"),
    "area": ("area", "areas"),
    "iscrowd": ("iscrowd", "is_crowd"),
    "segmentation": ("segmentation", "segmentations"),
}


class Columns(NamedTuple):
    """Columns of a table, and names of the fields of its objects."""

    image: str
    objects: str
    fields: Mapping[str, str]


def find_columns(features: Mapping[str, Any], where: str, image: str | None, objects: str | None) -> Columns:
    """The columns of pictures and of objects.

    Args:
        features: `datasets.Features`.
        where: for messages.
        image, objects: what they are called; None: found by types and names.

    Raises:
        DataError: there are none, or several.
    """
    if image is not None:
        kinds = (is_image, is_binary, is_bytes_and_path)
        check_column(image, features, where, what="image", wanted="pictures", kinds=kinds)
    pictures = [name for name, one in features.items() if is_image(one) or is_bytes_and_path(one)]
    usual = [name for name in pictures if name.lower() in _IMAGES]
    image = image or only_column(usual or pictures, where, what="image")
    found = {name: fields for name, one in features.items() if (fields := _fields(one))}
    if objects is not None and objects not in found:
        raise DataError(f"data.objects_column={objects}: {where} has no such column of boxes and classes")
    objects = objects or only_column(list(found), where, what="objects")
    if image is None or objects is None:
        raise DataError(
            f"{where} has no columns of pictures and of objects, with bbox and category, but "
            f"{with_kinds(features)}: data.image_column= and data.objects_column= name them"
        )
    return Columns(image, objects, found[objects])


def _inner(feature: Any) -> Mapping[str, Any] | None:
    """The fields of a feature's objects: of a struct of lists, or of a list of structs."""
    inner = getattr(feature, "feature", feature)
    return inner if isinstance(inner, dict) else None


def _fields(feature: Any) -> dict[str, str]:
    """COCO's key -> the field; empty where a feature has no boxes or no classes."""
    inner = _inner(feature) or {}

    def named(usual: Sequence[str]) -> str | None:
        return next((name for name in inner if name.lower() in usual), None)

    found = {"bbox": named(_BOXES), "category_id": named(_CLASSES)}
    if None in found.values():
        return {}
    found |= {key: named(usual) for key, usual in _OTHERS.items()}
    return {key: name for key, name in found.items() if name is not None}


def find_categories(
    feature: Any, columns: Columns, objects: Sequence[Sequence[Mapping[str, Any]]], where: str
) -> tuple[tuple[Category, ...], dict[Any, int]]:
    """The classes, and of each stored value its class's number.

    Args:
        feature: of the column of objects.
        columns: for the field of classes.
        objects: of each row.
        where: for messages.

    Raises:
        DataError: classes are neither names nor numbers, or there are none.
    """
    inner = _inner(feature) or {}
    field = columns.fields["category_id"]
    names = getattr(getattr(inner[field], "feature", inner[field]), "names", None)
    values: set[Any] = {one.get(field) for row in objects for one in row} - {None}
    if names is None and all(isinstance(value, str) for value in values):
        names = sorted(values)
        places = {name: number for number, name in enumerate(names)}
    elif names is None:
        if any(not isinstance(value, int) or value < 0 for value in values):
            raise DataError(f"{where}: {columns.objects}.{field} holds neither names nor numbers from 0 on")
        names = [str(number) for number in range(max(values, default=-1) + 1)]
        places = {number: number for number in range(len(names))}
    else:
        places = {number: number for number in range(len(names))}
    if not names:
        raise DataError(f"{where}: no row has an object")
    return tuple(Category(number, str(name)) for number, name in enumerate(names)), places
