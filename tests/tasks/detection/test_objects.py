"""Tables of objects give back what was put in, whole and in part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hornet_train.tasks.detection.objects import Annotation, ObjectTable, PictureObjects, Rle, TableBuilder

NUMBERS = st.one_of(st.integers(0, 99999).map(lambda n: n / 100), st.floats(0, 999))
RINGS = st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=5).map(np.array)
OUTLINES = st.one_of(
    st.none(),
    st.lists(RINGS, min_size=1, max_size=3).map(tuple),
    st.binary(min_size=1, max_size=5).map(lambda code: Rle((3, 4), code)),
)
OBJECTS = st.builds(
    Annotation,
    st.tuples(*[NUMBERS] * 4),
    st.integers(0, 3),
    st.booleans(),
    NUMBERS,
    st.integers(1, 2**40),
    OUTLINES,
)
PICTURES = st.lists(st.lists(OBJECTS, max_size=4), min_size=1, max_size=4)


def table(pictures: list[list[Annotation]]) -> ObjectTable:
    builder = TableBuilder()
    for objects in pictures:
        builder.add(objects)
    return builder.table()


def check(found: PictureObjects, objects: list[Annotation]) -> None:
    assert found.boxes.tolist() == [list(one.box) for one in objects]
    assert found.labels.tolist() == [one.label for one in objects]
    assert found.crowd.tolist() == [one.crowd for one in objects]
    assert found.areas.tolist() == [one.area for one in objects]
    assert found.ids.tolist() == [one.number for one in objects]
    for ours, one in zip(found.outlines, objects, strict=True):
        assert type(ours) is type(one.outline)
        if isinstance(one.outline, Rle) or one.outline is None:
            assert ours == one.outline
        else:
            assert ours is not None
            pairs = zip(ours, one.outline, strict=True)
            assert all(np.array_equal(mine, ring) for mine, ring in pairs)  # to the last bit


@given(PICTURES, st.data())
def test_whole_and_in_part(pictures: list[list[Annotation]], data: Any) -> None:
    whole = table(pictures)
    for place, objects in enumerate(pictures):
        check(whole.of(place), objects)
    chosen = data.draw(st.lists(st.integers(0, len(pictures) - 1), max_size=5))
    part = whole.part(chosen)
    assert len(part) == len(chosen)
    for place, picture in enumerate(chosen):
        check(part.of(place), pictures[picture])
    other = whole.relabelled([3, 2, 1, 0])
    assert other.labels.tolist() == [3 - label for label in whole.labels]
    assert (whole.digest() == other.digest()) == (not whole.objects)


def test_coordinates_of_two_decimals_take_half_the_memory() -> None:
    ring = np.array([[0.07, 0.7], [1234.56, 0.3], [5.0, 8.01]])
    one = Annotation((0, 0, 1, 1), 0, False, 1, 1, (ring,))
    assert table([[one]]).xy.dtype == np.int32
    assert table([[one._replace(outline=(ring + 1e-7,))]]).xy.dtype == np.float64


@pytest.mark.parametrize("pictures", [[[]], [[], []]])
def test_pictures_without_objects(pictures: list[list[Annotation]]) -> None:
    found = table(pictures)
    assert (len(found), found.objects) == (len(pictures), 0)
    assert found.of(0).outlines == ()
    assert len(found.part([0, 0])) == 2
