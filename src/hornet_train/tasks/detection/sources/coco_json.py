"""COCO's JSON: pictures, categories, and annotations with boxes and masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hornet_train.errors import DataError
from hornet_train.tasks.detection.sources.annotated import Annotated, Category
from hornet_train.tasks.detection.sources.annotation_rows import Picture, annotated, as_whole
from hornet_train.untrusted import parse_json, read_within

MAX_ANNOTATIONS = 2 * 10**9  # bytes; COCO's have 450 MB
_SMALL = 10**7  # bytes
_OTHER_KINDS = {  # keys of JSON files of other programs
    "shapes": "labelme's, one file a picture",
    "_via_img_metadata": "VIA's",
    "frames": "a video format's",
}


def read_coco(path: Path) -> Annotated:
    """Read a file of annotations.

    Raises:
        DataError: it is not there, not COCO's JSON, or its pictures, categories or boxes are not as they
            should be.
    """
    content = _content(path)
    pictures, categories = _pictures(content, path), _categories(content, path)
    found = annotated(str(path), pictures, categories, _rows(content, "annotations", path))
    found.check_boxes("COCO's bbox is [left, top, width, height]; convert them")
    return found


def check_kind(path: Path) -> None:
    """Raises DataError where a file, if it is small, is no JSON of COCO's."""
    if path.stat().st_size <= _SMALL:
        _content(path)


def _content(path: Path) -> Mapping[str, Any]:
    if path.suffix.lower() in (".txt", ".yaml", ".yml"):
        raise DataError(f"{path} is no JSON: YOLO's labels have to be converted to COCO's JSON first")
    if path.suffix.lower() == ".xml":
        raise DataError(f"{path} is Pascal VOC's XML: data=voc reads a folder of them")
    try:
        content = parse_json(read_within(path, MAX_ANNOTATIONS), MAX_ANNOTATIONS)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); check that it is there") from error
    except ValueError as error:
        raise DataError(
            f"{path} is no complete JSON ({error}): it is damaged, or breaks off; fetch it again"
        ) from error
    if isinstance(content, list) and content and isinstance(content[0], dict) and "score" in content[0]:
        raise DataError(f"{path} holds results of a detector; annotations are needed")
    if not isinstance(content, dict) or "images" not in content or "annotations" not in content:
        known = content if isinstance(content, dict | list) else ()
        kind = next((what for key, what in _OTHER_KINDS.items() if key in known), "of some other kind")
        raise DataError(
            f"{path} is no COCO JSON, with images, annotations and categories, but {kind}: convert it first"
        )
    return content


def _rows(content: Mapping[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    rows = content.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: {key} is no list of objects; is it COCO's JSON?")
    return rows


def _pictures(content: Mapping[str, Any], path: Path) -> list[Picture]:
    """Number, name and (height, width) of each picture."""
    found = []
    for row in _rows(content, "images", path):
        number, name = as_whole(row.get("id")), row.get("file_name")
        height, width = as_whole(row.get("height")), as_whole(row.get("width"))
        if number is None or not isinstance(name, str) or not name:
            raise DataError(f"{path}: the picture {row} needs a whole number as id, and a file_name")
        if height is None or width is None or height <= 0 or width <= 0:
            raise DataError(f"{path}: picture {number} ({name}) needs height and width in pixels")
        found.append(Picture(number, name.replace("\\", "/"), (height, width)))  # as Windows writes paths
    if not found:
        raise DataError(f"{path} lists no pictures")
    for what, values in (("id", [one.number for one in found]), ("file_name", [one.name for one in found])):
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            raise DataError(f"{path}: several pictures have the {what} {twice[0]}; remove all but one")
    return found


def _categories(content: Mapping[str, Any], path: Path) -> tuple[Category, ...]:
    found = []
    for row in _rows(content, "categories", path) if "categories" in content else []:
        number, name = as_whole(row.get("id")), row.get("name")
        if number is None or not isinstance(name, str) or not name:
            raise DataError(f"{path}: the category {row} needs a whole number as id, and a name")
        found.append(Category(number, name))
    if not found:
        raise DataError(f"{path} lists no categories: they say what the annotations' category_id are called")
    for what, values in (("id", [one.number for one in found]), ("name", [one.name for one in found])):
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            raise DataError(f"{path}: several categories have the {what} {twice[0]!r}; join or rename them")
    return tuple(sorted(found, key=lambda one: one.number))
