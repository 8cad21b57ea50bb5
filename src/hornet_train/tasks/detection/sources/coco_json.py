"""COCO's JSON: pictures, categories, and annotations with boxes and masks.

What is wrong is told with the number of the annotation. What the COCO tools take in silence and get wrong
(numbers that come twice or are 0, missing areas) is mended and told.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from hornet_train.errors import DataError
from hornet_train.tasks.detection.boxes import unusable
from hornet_train.tasks.detection.objects import Annotation, Outline, Rle, TableBuilder
from hornet_train.tasks.detection.rle import area_of, checked, coded, counts_of, mask_code, window_of
from hornet_train.tasks.detection.sources.annotated import Annotated, Category, Findings
from hornet_train.untrusted import parse_json, read_within

MAX_ANNOTATIONS = 2 * 10**9  # bytes; COCO's have 450 MB
_LEAST_POINTS = 3  # of a polygon
_FARTHEST = 10  # sides of a picture that a polygon may reach: to draw one takes memory by its length
_LARGEST = 1e7  # pixels
_OTHER_KINDS = {  # keys of JSON files of other programs
    "shapes": "labelme's, one file a picture",
    "_via_img_metadata": "VIA's",
    "frames": "a video format's",
}


class _Fault(Exception):  # noqa: N818 - what is wrong with one annotation
    """Its message says why an annotation cannot be taken."""


def read_coco(path: Path) -> Annotated:
    """Read a file of annotations.

    Raises:
        DataError: it is not there, not COCO's JSON, or its pictures or categories are not as they should be.
    """
    content = _content(path)
    pictures, categories = _pictures(content, path), _categories(content, path)
    places = {one.number: place for place, one in enumerate(categories)}
    findings = Findings()
    by_picture: dict[int, list[Annotation]] = {number: [] for number, _, _ in pictures}
    sizes = {number: size for number, _, size in pictures}
    annotations = _rows(content, "annotations", path)
    numbers = _Numbers(annotations)
    for place, raw in enumerate(annotations):
        name = f"id {raw['id']}" if "id" in raw else f"annotation {place + 1} (without id)"
        try:
            picture, found = _annotation(raw, places, sizes, name, findings)
        except _Fault as fault:
            findings.drop(str(fault), name)
            continue
        number, told = numbers.of(place)
        if told:
            findings.mend(told, name)
        by_picture[picture].append(found._replace(number=number))
    builder = TableBuilder()
    for number, _, _ in pictures:
        builder.add(by_picture.pop(number))
    return Annotated(
        str(path),
        [name for _, name, _ in pictures],
        [number for number, _, _ in pictures],
        [size for _, _, size in pictures],
        builder.table(),
        categories,
        findings,
    )


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
        kind = next((what for key, what in _OTHER_KINDS.items() if key in content), "of some other kind")
        raise DataError(
            f"{path} is no COCO JSON, with images, annotations and categories, but {kind}: convert it first"
        )
    return content


def _rows(content: Mapping[str, Any], key: str, path: Path) -> list[dict[str, Any]]:
    rows = content.get(key)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path}: {key} is no list of objects; is it COCO's JSON?")
    return rows


def _pictures(content: Mapping[str, Any], path: Path) -> list[tuple[int, str, tuple[int, int]]]:
    """Number, name and (height, width) of each picture."""
    found = []
    for row in _rows(content, "images", path):
        number, name = row.get("id"), row.get("file_name")
        height, width = row.get("height"), row.get("width")
        if isinstance(number, str) and number.isdecimal():
            number = int(number)
        if not _is_whole(number) or not isinstance(name, str) or not name:
            raise DataError(f"{path}: the picture {row} needs a whole number as id, and a file_name")
        if not (_is_whole(height) and _is_whole(width) and height > 0 and width > 0):
            raise DataError(f"{path}: picture {number} ({name}) needs height and width in pixels")
        found.append((int(number), name, (int(height), int(width))))
    if not found:
        raise DataError(f"{path} lists no pictures")
    for what, values in (("id", [one[0] for one in found]), ("file_name", [one[1] for one in found])):
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            raise DataError(f"{path}: several pictures have the {what} {twice[0]}; remove all but one")
    return found


def _categories(content: Mapping[str, Any], path: Path) -> tuple[Category, ...]:
    found = []
    for row in _rows(content, "categories", path) if "categories" in content else []:
        number, name = row.get("id"), row.get("name")
        if not _is_whole(number) or not isinstance(name, str) or not name:
            raise DataError(f"{path}: the category {row} needs a whole number as id, and a name")
        found.append(Category(int(number), name))
    if not found:
        raise DataError(f"{path} lists no categories: they say what the annotations' category_id are called")
    for what, values in (("id", [one.number for one in found]), ("name", [one.name for one in found])):
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            raise DataError(f"{path}: several categories have the {what} {twice[0]!r}; join or rename them")
    return tuple(sorted(found, key=lambda one: one.number))


class _Numbers:
    """Numbers of annotations: their own where these are above 0 and come once, else new ones."""

    def __init__(self, annotations: Sequence[Mapping[str, Any]]) -> None:
        self._own = [row["id"] if _is_whole(row.get("id")) else None for row in annotations]
        self._seen: set[int] = set()
        self._next = max((number for number in self._own if number is not None), default=0) + 1
        self._next = max(1, self._next)

    def of(self, place: int) -> tuple[int, str]:
        """The number, and what was wrong with its own; "" for nothing."""
        own = self._own[place]
        if own is not None and own > 0 and own not in self._seen:
            self._seen.add(own)
            return int(own), ""
        self._next += 1
        why = (
            "id is no whole number" if own is None else "id is not above 0" if own <= 0 else "id comes twice"
        )
        return self._next - 1, f"{why}, another is given"


def _annotation(
    raw: Mapping[str, Any],
    places: Mapping[int, int],
    sizes: Mapping[int, tuple[int, int]],
    name: str,
    findings: Findings,
) -> tuple[int, Annotation]:
    """The number of its picture, and the object. Raises _Fault where it cannot be taken."""
    picture = raw.get("image_id")
    if isinstance(picture, str) and picture.isdecimal():
        picture = int(picture)
    if not _is_whole(picture) or picture not in sizes:
        raise _Fault("image_id is no picture of the file")
    if raw.get("category_id") not in places:
        raise _Fault("category_id is no category of the file")
    outline = _outline(raw.get("segmentation"), sizes[picture], name, findings)
    box = _box(raw.get("bbox"), outline, sizes[picture], name, findings)
    crowd = raw.get("iscrowd")
    if crowd not in (0, 1, False, True):
        findings.mend("iscrowd is missing, 0 is taken", name)
        crowd = 0
    area = raw.get("area")
    if not _is_number(area) or area < 0:
        findings.mend("area is missing, that of its mask or box is taken", name)
        rle = mask_code(outline, sizes[picture])
        area = box[2] * box[3] if rle is None else area_of(rle)
    _look(box, sizes[picture], name, findings)
    return picture, Annotation(box, places[raw["category_id"]], bool(crowd), float(area), 0, outline)


def _box(
    raw: Any, outline: Outline, size: tuple[int, int], name: str, findings: Findings
) -> tuple[float, float, float, float]:
    if raw is None and outline is not None:
        findings.mend("bbox is missing, that of its mask is taken", name)
        rle = mask_code(outline, size)
        assert rle is not None
        window = window_of(rle)
        tall, wide = window.pixels.shape
        return float(window.left), float(window.top), float(wide), float(tall)
    if not isinstance(raw, list) or len(raw) != 4 or not all(map(_is_number, raw)):
        raise _Fault("bbox is not four numbers")
    if max(map(abs, raw)) > _LARGEST:
        raise _Fault("bbox is not four numbers of pixels")
    left, top, width, height = map(float, raw)
    return left, top, width, height


def _look(
    box: tuple[float, float, float, float], size: tuple[int, int], name: str, findings: Findings
) -> None:
    """Note what a training leaves out, and what an evaluation counts all the same."""
    if why := unusable(box, size):
        findings.mend(f"{why}, not trained on", name)


def _outline(raw: Any, size: tuple[int, int], name: str, findings: Findings) -> Outline:
    """Raises _Fault where there is something that is no outline."""
    if raw is None or raw == [] or raw == {}:
        return None
    if isinstance(raw, list):
        return _polygons(raw, size, name, findings)
    if not isinstance(raw, dict) or "counts" not in raw:
        raise _Fault("segmentation is neither polygons nor a run-length code")
    counts, given = raw["counts"], raw.get("size")
    if not isinstance(given, list) or len(given) != 2 or not all(map(_is_whole, given)):
        raise _Fault("its run-length code has no size")
    if tuple(given) != size:
        raise _Fault("its run-length code is of another size than its picture")
    try:
        if isinstance(counts, list):
            if not all(map(_is_whole, counts)):
                raise _Fault("its run-length code is no list of whole numbers")
            return coded(checked(np.array(counts, dtype=np.int64), size), size)
        rle = Rle(size, str(counts).encode())
        counts_of(rle)
    except (ValueError, OverflowError) as error:
        raise _Fault("its run-length code is damaged") from error
    return rle


def _polygons(raw: list[Any], size: tuple[int, int], name: str, findings: Findings) -> Outline:
    if all(map(_is_number, raw)):
        raise _Fault("segmentation is one list of numbers: polygons are lists in a list")
    rings = []
    for ring in raw:
        if not isinstance(ring, list) or len(ring) % 2 or not all(map(_is_number, ring)):
            raise _Fault("a polygon is no list of pairs of numbers")
        if len(ring) >= 2 * _LEAST_POINTS:
            rings.append(np.array(ring, dtype=np.float64).reshape(-1, 2))
            if np.abs(rings[-1]).max() > _FARTHEST * max(size):
                raise _Fault("a polygon reaches far out of its picture")
    if len(rings) < len(raw):
        findings.mend("polygons of fewer than three points are left out", name)
    return tuple(rings) or None


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
