"""The objects of pictures as they are annotated, a whole data set of them in a few arrays.

Arrays pickle quickly and are shared by forked processes without being copied, where a dict for each of COCO's
860,000 objects would take gigabytes in every process.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np

from hornet_train.images.layout import Points

Array = np.ndarray[Any, Any]

_CENTS = 100  # polygons whose coordinates have two decimals, as COCO's have, are kept as whole numbers


class Rle(NamedTuple):
    """A mask in COCO's run-length code: (height, width) of its picture, and the compressed counts."""

    size: tuple[int, int]
    counts: bytes


Outline = tuple[Points, ...] | Rle | None
"""The rings of an object's parts, float64 (K, 2) each, in pixels of the stored picture; its mask; or none."""


class PictureObjects(NamedTuple):
    """The objects of a picture.

    Attributes:
        boxes: float64 (N, 4): left, top, width, height in pixels of the stored picture.
        labels: places of their classes, int64 (N,).
        crowd: bool (N,): whether it is a region with many, which is not trained on.
        areas: float64 (N,), by which an evaluation calls them small, medium or large.
        ids: int64 (N,), of the annotations.
        outlines: N.
    """

    boxes: Array
    labels: Array
    crowd: Array
    areas: Array
    ids: Array
    outlines: tuple[Outline, ...]


class Annotation(NamedTuple):
    """An object as it is read; see `PictureObjects`."""

    box: tuple[float, float, float, float]
    label: int
    crowd: bool
    area: float
    number: int
    outline: Outline = None


@dataclass(frozen=True)
class ObjectTable:
    """The objects of all pictures of a data set, in their order.

    Attributes:
        starts: int64 (P + 1,): where the objects of each picture begin.
        boxes, labels, crowd, areas, ids: see `PictureObjects`, of all.
        rings: int64 (N + 1,): where the rings of each object begin.
        points: int64 (R + 1,): where the points of each ring begin.
        xy: (Q, 2): the points; whole hundredths of a pixel, or float64.
        codes: int64 (N + 1,): where the run-length code of each object begins; an empty one is none.
        bytes_of_codes: uint8.
        sizes: int32 (N, 2): (height, width) of the picture that a code is for.
    """

    starts: Array
    boxes: Array
    labels: Array
    crowd: Array
    areas: Array
    ids: Array
    rings: Array
    points: Array
    xy: Array
    codes: Array
    bytes_of_codes: Array
    sizes: Array

    def __len__(self) -> int:
        return len(self.starts) - 1

    @property
    def objects(self) -> int:
        """How many there are in all."""
        return len(self.labels)

    @property
    def outlined(self) -> Array:
        """Which objects have an outline, bool (N,)."""
        found: Array = (np.diff(self.rings) > 0) | (np.diff(self.codes) > 0)
        return found

    def of(self, picture: int) -> PictureObjects:
        """The objects of a picture."""
        first, last = int(self.starts[picture]), int(self.starts[picture + 1])
        part = slice(first, last)
        return PictureObjects(
            self.boxes[part],
            self.labels[part],
            self.crowd[part],
            self.areas[part],
            self.ids[part],
            tuple(self._outline(number) for number in range(first, last)),
        )

    def sizes_of_pictures(self, sizes_P2: Any) -> Array:
        """(height, width) of each object's picture, float64 (N, 2), from those of the pictures."""
        return np.repeat(np.asarray(sizes_P2, dtype=np.float64), np.diff(self.starts), axis=0)

    def bounds_of_polygons(self) -> tuple[Array, Array]:
        """Which objects have polygons, int64 (M,), and left, top, right, bottom of their points, (M, 4)."""
        drawn = np.flatnonzero(np.diff(self.rings))
        if not len(drawn):
            return drawn, np.zeros((0, 4))
        starts = self.points[self.rings[drawn]]
        bounds = [least.reduceat(self.xy, starts, axis=0) for least in (np.minimum, np.maximum)]
        found: Array = np.concatenate(bounds, axis=1)
        return drawn, found if self.xy.dtype == np.float64 else found / _CENTS

    def code(self, number: int) -> Rle:
        """The run-length code of an object; without any counts if it has none."""
        height, width = self.sizes[number].tolist()
        counts = self.bytes_of_codes[self.codes[number] : self.codes[number + 1]]
        return Rle((height, width), counts.tobytes())

    def _outline(self, number: int) -> Outline:
        if (code := self.code(number)).counts:
            return code
        rings = range(int(self.rings[number]), int(self.rings[number + 1]))
        if not rings:
            return None
        found = tuple(self.xy[self.points[ring] : self.points[ring + 1]] for ring in rings)
        return found if self.xy.dtype == np.float64 else tuple(ring / _CENTS for ring in found)

    def relabelled(self, places: Sequence[int]) -> ObjectTable:
        """The same with other labels: label k becomes `places[k]`."""
        return self._with(labels=np.asarray(places, dtype=np.int64)[self.labels])

    def part(self, pictures: Sequence[int] | Array) -> ObjectTable:
        """The objects of some pictures."""
        chosen = np.asarray(pictures, dtype=np.int64)
        counts = np.diff(self.starts)[chosen]
        objects = _ranges(self.starts[chosen], counts)
        rings = _ranges(self.rings[objects], np.diff(self.rings)[objects])
        points = _ranges(self.points[rings], np.diff(self.points)[rings])
        codes = _ranges(self.codes[objects], np.diff(self.codes)[objects])
        return ObjectTable(
            starts=_ends(counts),
            **{
                name: getattr(self, name)[objects]
                for name in ("boxes", "labels", "crowd", "areas", "ids", "sizes")
            },
            rings=_ends(np.diff(self.rings)[objects]),
            points=_ends(np.diff(self.points)[rings]),
            xy=self.xy[points],
            codes=_ends(np.diff(self.codes)[objects]),
            bytes_of_codes=self.bytes_of_codes[codes],
        )

    def digest(self) -> bytes:
        """Of everything in it."""
        found = hashlib.sha256()
        for one in fields(self):
            value: Array = getattr(self, one.name)
            found.update(f"{one.name} {value.dtype} {value.shape} ".encode())
            found.update(np.ascontiguousarray(value).data)
        return found.digest()

    def _with(self, **changed: Array) -> ObjectTable:
        return ObjectTable(**{**{one.name: getattr(self, one.name) for one in fields(self)}, **changed})


@dataclass
class TableBuilder:
    """Makes an `ObjectTable`, picture by picture."""

    _counts: list[int] = field(default_factory=list)
    _rows: list[tuple[float, float, float, float, int, bool, float, int]] = field(default_factory=list)
    _rings: list[int] = field(default_factory=list)
    _points: list[int] = field(default_factory=list)
    _xy: list[Points] = field(default_factory=list)
    _codes: list[bytes] = field(default_factory=list)
    _sizes: list[tuple[int, int]] = field(default_factory=list)

    def add(self, annotations: Iterable[Annotation]) -> None:
        """The objects of the next picture."""
        before = len(self._rows)
        for one in annotations:
            self._rows.append((*one.box, one.label, one.crowd, one.area, one.number))
            rle = one.outline if isinstance(one.outline, Rle) else None
            rings = () if rle is not None or one.outline is None else one.outline
            self._rings.append(len(rings))
            self._points += [len(ring) for ring in rings]
            self._xy += [np.asarray(ring, dtype=np.float64) for ring in rings]
            self._codes.append(rle.counts if rle is not None else b"")
            self._sizes.append(rle.size if rle is not None else (0, 0))
        self._counts.append(len(self._rows) - before)

    def table(self) -> ObjectTable:
        """What was added."""
        rows = list(zip(*self._rows, strict=True)) or [()] * 8
        xy = np.concatenate(self._xy) if self._xy else np.zeros((0, 2))
        cents = np.rint(xy * _CENTS)
        if len(xy) and np.abs(cents).max() < 2**31 and np.array_equal(cents / _CENTS, xy):
            xy = cents.astype(np.int32)
        return ObjectTable(
            starts=_ends(self._counts),
            boxes=np.array(rows[:4], dtype=np.float64).T.reshape(-1, 4),
            labels=np.array(rows[4], dtype=np.int64),
            crowd=np.array(rows[5], dtype=bool),
            areas=np.array(rows[6], dtype=np.float64),
            ids=np.array(rows[7], dtype=np.int64),
            rings=_ends(self._rings),
            points=_ends(self._points),
            xy=xy,
            codes=_ends([len(code) for code in self._codes]),
            bytes_of_codes=np.frombuffer(b"".join(self._codes), dtype=np.uint8),
            sizes=np.array(self._sizes, dtype=np.int32).reshape(-1, 2),
        )


def _ends(counts: Sequence[int] | Array) -> Array:
    """Where each of several parts begins, and where the last ends."""
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _ranges(starts: Array, counts: Array) -> Array:
    """start, start + 1, ... of each, so many, one after the other."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    found: Array = np.repeat(starts - (ends - counts), counts) + np.arange(total)
    return found
