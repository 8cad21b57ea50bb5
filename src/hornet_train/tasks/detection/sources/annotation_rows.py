"""Annotations as COCO has them, one by one: which can be used, and what is mended.

What is wrong is told with the number of the annotation. What the COCO tools take in silence and get wrong
(numbers that come twice or are 0, missing areas) is mended and told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

import numpy as np

from hornet_train.images.layout import Points
from hornet_train.tasks.detection.boxes import unusable
from hornet_train.tasks.detection.objects import Annotation, Outline, Rle, TableBuilder
from hornet_train.tasks.detection.rle import area_of, checked, coded, counts_of, mask_code, window_of
from hornet_train.tasks.detection.sources.annotated import Annotated, Category, Findings

_LEAST_POINTS = 3  # of a polygon
_FARTHEST = 10  # sides of a picture that a polygon may reach: to draw one takes memory by its length
_LARGEST = 1e7  # pixels
_HUGE = 1e300  # no number is as large, nor infinite
_PLAIN = frozenset((int, float))  # types of numbers, of which bool is none
_NO_PIXELS = "its mask has no pixels, not trained on"


class Picture(NamedTuple):
    """A picture as a file lists it: its number, its name, its (height, width) in pixels."""

    number: int
    name: str
    size: tuple[int, int]


class _Fault(Exception):  # noqa: N818 - what is wrong with one annotation
    """Its message says why an annotation cannot be taken."""


def annotated(
    where: str,
    pictures: Sequence[Picture],
    categories: tuple[Category, ...],
    annotations: list[dict[str, Any]],
) -> Annotated:
    """Take annotations, and note what is left out and mended.

    Args:
        where: what was read.
        pictures: with numbers of their own.
        categories: rising by number.
        annotations: with COCO's keys. The list is emptied: COCO's takes gigabytes.
    """
    places = {one.number: place for place, one in enumerate(categories)}
    findings = Findings()
    by_picture: dict[int, list[Annotation]] = {one.number: [] for one in pictures}
    sizes = {one.number: one.size for one in pictures}
    numbers = _Numbers(annotations)
    annotations.reverse()
    for place in range(len(annotations)):
        raw = annotations.pop()
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
    for one in pictures:
        builder.add(by_picture.pop(one.number))
    return Annotated(
        where,
        [one.name for one in pictures],
        [one.number for one in pictures],
        [one.size for one in pictures],
        builder.table(),
        categories,
        findings,
    )


class _Numbers:
    """Numbers of annotations: their own where these are above 0 and come once, else new ones."""

    def __init__(self, annotations: Sequence[Mapping[str, Any]]) -> None:
        self._own = [row["id"] if is_whole(row.get("id")) else None for row in annotations]
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
    picture, category = as_whole(raw.get("image_id")), as_whole(raw.get("category_id"))
    if picture is None or picture not in sizes:
        raise _Fault("image_id is no picture of the file")
    if category is None or category not in places:
        raise _Fault("category_id is no category of the file")
    outline = _outline(raw.get("segmentation"), sizes[picture], name, findings)
    box = _box(raw.get("bbox"), outline, sizes[picture], name, findings)
    crowd = raw.get("iscrowd")
    if crowd not in (0, 1, False, True):
        findings.mend(f"iscrowd is {'missing' if crowd is None else 'neither 0 nor 1'}, 0 is taken", name)
        crowd = 0
    area = raw.get("area")
    if not _is_number(area) or area < 0:
        why = "is missing" if area is None else "is no number of pixels"
        findings.mend(f"area {why}, that of its mask or box is taken", name)
        rle = mask_code(outline, sizes[picture])
        area = box[2] * box[3] if rle is None else area_of(rle)
    elif area == 0:
        findings.mend("area is 0, not trained on", name)
    _look(box, sizes[picture], name, findings)
    return picture, Annotation(box, places[category], bool(crowd), float(area), 0, outline)


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
    if 0 not in size and (why := unusable(box, size)):
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
    if not isinstance(given, list) or len(given) != 2 or not all(map(is_whole, given)):
        raise _Fault("its run-length code has no size")
    if 0 not in size and tuple(given) != size:
        raise _Fault("its run-length code is of another size than its picture")
    try:
        if isinstance(counts, list):
            if any(type(one) is not int for one in counts):
                raise _Fault("its run-length code is no list of whole numbers")
            rle = coded(checked(np.array(counts, dtype=np.int64), size), size)
        else:
            rle = Rle(size, str(counts).encode())
        if not counts_of(rle)[1::2].any():
            findings.mend(_NO_PIXELS, name)
    except (ValueError, OverflowError) as error:
        raise _Fault("its run-length code is damaged") from error
    return rle


def _polygons(raw: list[Any], size: tuple[int, int], name: str, findings: Findings) -> Outline:
    if all(map(_is_number, raw)):
        raise _Fault("segmentation is one list of numbers: polygons are lists in a list")
    rings, seen = [], False
    for one in raw:
        ring = _ring(one)
        if len(ring) < _LEAST_POINTS:
            continue
        rings.append(ring)
        if 0 not in size:
            (left, top), (right, bottom) = ring.min(0).tolist(), ring.max(0).tolist()
            if max(-left, -top, right, bottom) > _FARTHEST * max(size):
                raise _Fault("a polygon reaches far out of its picture")
            seen |= right > 0 and bottom > 0 and left < size[1] and top < size[0]
    if len(rings) < len(raw):
        findings.mend("polygons of fewer than three points are left out", name)
    if rings and 0 not in size and not seen:
        findings.mend(_NO_PIXELS, name)
    return tuple(rings) or None


def _ring(raw: Any) -> Points:
    """Raises _Fault where there are no pairs of numbers."""
    # all at once: COCO's polygons have 40 million numbers
    if isinstance(raw, list) and len(raw) % 2 == 0 and _PLAIN.issuperset(map(type, raw)):
        try:
            points = np.array(raw, dtype=np.float64).reshape(-1, 2)
        except OverflowError:  # a whole number of hundreds of digits
            points = np.full((1, 2), np.inf)
        if (np.abs(points) < _HUGE).all():
            return points
    raise _Fault("a polygon is no list of pairs of numbers")


def is_whole(value: Any) -> TypeGuard[int]:
    """Whether a value is a whole number, of fewer than 63 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**62


def as_whole(value: Any) -> int | None:
    """A whole number, which some programs write as 7.0 or "7"; None for anything else."""
    if (isinstance(value, str) and value.isdecimal()) or (isinstance(value, float) and value.is_integer()):
        value = int(value)
    return value if is_whole(value) else None


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _HUGE
