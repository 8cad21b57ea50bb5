"""COCO's JSON as people have it: what is mended is told, what cannot be used is refused by its id."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hornet_train.errors import DataError
from hornet_train.tasks.detection.boxes import trained
from hornet_train.tasks.detection.objects import Rle
from hornet_train.tasks.detection.rle import area_of
from hornet_train.tasks.detection.sources.annotated import Annotated
from hornet_train.tasks.detection.sources.coco_json import read_coco

SQUARE = [[2.0, 2.0, 6.0, 2.0, 6.0, 6.0, 2.0, 6.0]]


def content() -> dict[str, Any]:
    """Two pictures, categories with gaps in their ids, one object."""
    return {
        "images": [
            {"id": 70, "file_name": "b.jpg", "height": 10, "width": 12},
            {"id": 7, "file_name": "sub/a.jpg", "height": 8, "width": 8},
        ],
        "categories": [{"id": 90, "name": "late"}, {"id": 3, "name": "early"}],
        "annotations": [annotation()],
    }


def annotation(**changed: Any) -> dict[str, Any]:
    return {
        "id": 5, "image_id": 70, "category_id": 90, "bbox": [2.0, 2.0, 4.0, 4.0], "area": 16.0, "iscrowd": 0,
        "segmentation": SQUARE, **changed,
    }  # fmt: skip


def read(tmp_path: Path, *annotations: dict[str, Any], **changed: Any) -> Annotated:
    whole = {**content(), **({"annotations": list(annotations)} if annotations else {}), **changed}
    path = tmp_path / "train.json"
    path.write_text(json.dumps(whole))
    return read_coco(path)


def test_ids_with_gaps_are_mapped(tmp_path: Path) -> None:
    found = read(tmp_path)
    assert [(one.number, one.name) for one in found.categories] == [(3, "early"), (90, "late")]
    assert found.numbers == [70, 7]
    assert found.objects.of(0).labels.tolist() == [1]
    assert found.objects.of(1).labels.tolist() == []
    assert not found.notes()


def test_masks_of_all_kinds(tmp_path: Path) -> None:
    counts = [22, 4, 6, 4, 84]
    compressed = read(tmp_path, annotation(segmentation={"size": [10, 12], "counts": counts}))
    (uncompressed,) = compressed.objects.of(0).outlines
    assert isinstance(uncompressed, Rle)
    assert area_of(uncompressed) == 8
    again = annotation(segmentation={"size": [10, 12], "counts": uncompressed.counts.decode()})
    assert read(tmp_path, again).objects.of(0).outlines == (uncompressed,)


MENDED: list[tuple[dict[str, Any], str]] = [
    ({"area": None}, "area is missing"),
    ({"iscrowd": None}, "iscrowd is missing"),
    ({"iscrowd": "1"}, "iscrowd is neither 0 nor 1"),
    ({"bbox": None}, "bbox is missing"),
    ({"id": 2**63}, "id is no whole number"),
    ({"id": 0}, "id is not above 0"),
    ({"id": None}, "id is no whole number"),
    ({"segmentation": [*SQUARE, [1.0, 1.0, 2.0, 2.0]]}, "fewer than three points"),
    ({"bbox": [2.0, 2.0, 0.5, 4.0]}, "narrower than a pixel, not trained on"),
    ({"bbox": [20.0, 2.0, 4.0, 4.0]}, "outside of its picture, not trained on"),
    ({"area": -5.0}, "area is no number of pixels"),
    ({"area": 10**400}, "area is no number of pixels"),
    ({"segmentation": {"size": [10, 12], "counts": [120]}, "area": 16.0}, "its mask has no pixels"),
    ({"segmentation": [[20.0, 2.0, 25.0, 2.0, 25.0, 6.0]]}, "its mask has no pixels"),
]


@pytest.mark.parametrize(("changed", "told"), MENDED, ids=lambda one: one if isinstance(one, str) else "")
def test_what_is_mended_is_told(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    found = read(tmp_path, {k: v for k, v in annotation(**changed).items() if v is not None})
    (note,) = found.notes()
    assert told in note
    assert "1 object: " in note
    assert str(changed.get("id", 5) or "") in note
    objects = found.objects.of(0)
    assert objects.areas.tolist() == [16.0]
    assert objects.ids[0] > 0


DROPPED: list[tuple[dict[str, Any], str]] = [
    ({"bbox": [2.0, 2.0, 4.0]}, "bbox is not four numbers"),
    ({"bbox": [2.0, float("nan"), 4.0, 4.0]}, "bbox is not four numbers"),
    ({"bbox": "2 2 4 4"}, "bbox is not four numbers"),
    ({"bbox": [2.0, 2.0, 1e300, 4.0]}, "bbox is not four numbers"),
    ({"segmentation": [[1.0, 2.0, 3e8, 4.0, 5.0, 6.0]]}, "reaches far out of its picture"),
    ({"bbox": [10**400, 2.0, 4.0, 4.0]}, "bbox is not four numbers"),
    ({"category_id": 1}, "category_id is no category"),
    ({"category_id": [90]}, "category_id is no category"),
    ({"image_id": 8}, "image_id is no picture"),
    ({"segmentation": SQUARE[0]}, "polygons are lists in a list"),
    ({"segmentation": [[1.0, 2.0, 3.0, 4.0, 5.0, "6"]]}, "no list of pairs of numbers"),
    ({"segmentation": "RLE"}, "neither polygons nor a run-length code"),
    ({"segmentation": {"size": [8, 8], "counts": [64]}}, "of another size than its picture"),
    ({"segmentation": {"size": [10, 12], "counts": [1, 2]}}, "run-length code is damaged"),
    ({"segmentation": {"size": [10, 12], "counts": "\x00"}}, "run-length code is damaged"),
    ({"segmentation": {"size": [10, 12], "counts": [10**30]}}, "run-length code is damaged"),
]


@pytest.mark.parametrize(("changed", "told"), DROPPED, ids=lambda one: one if isinstance(one, str) else "")
def test_what_cannot_be_used_is_left_out_and_told(tmp_path: Path, changed: dict[str, Any], told: str) -> None:
    found = read(tmp_path, annotation(**changed), annotation(id=6))
    (note,) = found.notes()
    assert "left out, " in note
    assert told in note
    assert "1 object: id 5" in note
    assert found.objects.of(0).ids.tolist() == [6]


def test_an_object_without_area_is_not_trained_on(tmp_path: Path) -> None:
    found = read(tmp_path, annotation(area=0))
    assert found.notes() == [note for note in found.notes() if "area is 0, not trained on" in note] != []
    assert not trained(found.objects.of(0), (10, 12)).any()


def test_numbers_as_some_programs_write_them(tmp_path: Path) -> None:
    images = [{"id": "70", "file_name": "sub\\b.jpg", "height": 10.0, "width": "12"}]
    found = read(tmp_path, annotation(image_id=70.0, category_id="90"), images=images)
    assert not found.notes()
    assert (found.names, found.numbers, found.sizes) == (["sub/b.jpg"], [70], [(10, 12)])
    assert found.objects.of(0).labels.tolist() == [1]
    with pytest.raises(DataError, match="needs height and width"):
        read(tmp_path, annotation(), images=[{**images[0], "width": 12.5}])


def test_numbers_that_come_twice_get_others(tmp_path: Path) -> None:
    found = read(tmp_path, annotation(), annotation(id=9), annotation())
    assert sorted(found.objects.of(0).ids.tolist()) == [5, 9, 10]
    assert "id comes twice" in found.notes()[0]


def without_key(key: str) -> Callable[[dict[str, Any]], Any]:
    return lambda whole: {name: value for name, value in whole.items() if name != key}


REFUSED: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda whole: json.dumps(whole)[:-20], "no complete JSON"),
    (lambda _: "", "no complete JSON"),
    (lambda _: [{"image_id": 1, "score": 0.5}], "results of a detector"),
    (lambda _: {"shapes": [], "imagePath": "a.jpg"}, "labelme"),
    (lambda _: None, "no COCO JSON"),
    (lambda _: 7, "no COCO JSON"),
    (without_key("images"), "no COCO JSON"),
    (without_key("categories"), "lists no categories"),
    (lambda whole: {**whole, "images": []}, "lists no pictures"),
    (lambda whole: {**whole, "images": whole["images"] * 2}, "several pictures have the id 70"),
    (lambda whole: {**whole, "images": [{**whole["images"][0], "width": 0}]}, "needs height and width"),
    (lambda whole: {**whole, "images": [{"file_name": "a"}]}, "whole number as id"),
    (
        lambda whole: {**whole, "categories": [{"id": 1, "name": "x"}, {"id": 2, "name": "x"}]},
        "several categories have the name 'x'",
    ),
    (lambda whole: {**whole, "annotations": {"id": 1}}, "annotations is no list"),
]


@pytest.mark.parametrize(("change", "told"), REFUSED, ids=lambda one: one if isinstance(one, str) else "")
def test_other_files_are_refused(tmp_path: Path, change: Callable[[Any], Any], told: str) -> None:
    path = tmp_path / "train.json"
    changed = change(content())
    path.write_text(changed if isinstance(changed, str) else json.dumps(changed))
    with pytest.raises(DataError, match=told) as refused:
        read_coco(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize(("name", "told"), [("a.txt", "YOLO"), ("a.xml", "data=voc"), ("a.json", "read")])
def test_other_names(tmp_path: Path, name: str, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_coco(tmp_path / name)


def test_boxes_are_as_they_are_stored(tmp_path: Path) -> None:
    box = [0.1 + 0.2, -1.5, 3.3, 1e3]
    assert np.array_equal(read(tmp_path, annotation(bbox=box)).objects.of(0).boxes, [box])
