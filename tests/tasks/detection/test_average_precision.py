"""Average precision of the reference's detections: pycocotools' numbers, to the last digit."""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np
import pytest
from golden import REFERENCE

from hornet_train.tasks.detection.average_precision import Found, Truth, average_precision, result_rows
from hornet_train.tasks.detection.metrics import KINDS
from hornet_train.tasks.detection.objects import Rle
from hornet_train.tasks.detection.sources.coco_json import read_coco

FILES = REFERENCE / "dense"


def detections(rows: list[dict[str, Any]], places: dict[int, int]) -> Found:
    boxes = np.array([row["bbox"] for row in rows], dtype=np.float64).reshape(-1, 4)
    return Found(
        np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1),
        np.array([row["score"] for row in rows]),
        np.array([places[row["category_id"]] for row in rows], dtype=np.int64),
        tuple(Rle(tuple(s["size"]), s["counts"].encode()) for s in (row["segmentation"] for row in rows)),
    )


@pytest.fixture(scope="module")
def measured() -> tuple[list[Truth], list[Found], dict[int, int]]:
    read = read_coco(FILES / "coco_gt.json")
    rows = json.loads(gzip.decompress((FILES / "coco_results.json.gz").read_bytes()))
    places = {one.number: label for label, one in enumerate(read.categories)}
    pictures = zip(read.numbers, read.sizes, strict=True)
    truths = [Truth(number, size, read.objects.of(k)) for k, (number, size) in enumerate(pictures)]
    found = [detections([r for r in rows if r["image_id"] == one.number], places) for one in truths]
    return truths, found, places


@pytest.mark.parametrize("kind", KINDS)
def test_the_reference(measured: tuple[list[Truth], list[Found], dict[int, int]], kind: str) -> None:
    truths, found, places = measured
    expected = json.loads((FILES / "coco_expected.json").read_text())[KINDS[kind]]
    ours = average_precision(truths, found, len(places), kind, range(len(places)))
    known = [np.nan if one < 0 else 100 * one for one in expected["pycocotools"].values()]
    assert list(ours.summary.values()) == pytest.approx(known, rel=0, abs=0, nan_ok=True)
    of_classes = {str(number): ours.per_class[label] for number, label in places.items()}
    for number, value in expected["per_category_AP"].items():
        assert of_classes[number] == pytest.approx(np.nan if value is None else 100 * value, nan_ok=True)


def test_neither_detections_nor_objects_are_needed(
    measured: tuple[list[Truth], list[Found], dict[int, int]],
) -> None:
    truths, found, _ = measured
    nothing = detections([], {})
    assert average_precision(truths, [nothing] * len(truths), 6, "mask", range(6)).summary["ap"] == 0
    bare = [Truth(one.number, one.size, one.objects._replace(**without(one))) for one in truths]
    assert np.isnan(average_precision(bare, found, 6, "box", range(6)).summary["ap"])


def test_objects_without_an_outline_are_neither_right_nor_wrong(
    measured: tuple[list[Truth], list[Found], dict[int, int]],
) -> None:
    """The same AP of masks as where they are crowds; that of boxes is as before."""
    truths, found, _ = measured
    bare, crowded = list[Truth](), list[Truth]()
    for one in truths:
        few = np.arange(len(one.objects.labels)) % 3 == 0
        outlines = [None if bad else kept for bad, kept in zip(few, one.objects.outlines, strict=True)]
        bare.append(Truth(one.number, one.size, one.objects._replace(outlines=outlines)))
        boxes = [
            (np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]]),)
            for x, y, w, h in one.objects.boxes.tolist()
        ]
        whole = [
            box if bad else kept for bad, kept, box in zip(few, one.objects.outlines, boxes, strict=True)
        ]
        crowds = one.objects._replace(outlines=whole, crowd=one.objects.crowd | few)
        crowded.append(Truth(one.number, one.size, crowds))
    masks = [average_precision(truth, found, 6, "mask", range(6)).summary for truth in (bare, crowded)]
    assert masks[0] == pytest.approx(masks[1], rel=0, abs=0, nan_ok=True)
    boxes_of = [average_precision(truth, found, 6, "box", range(6)).summary for truth in (bare, truths)]
    assert boxes_of[0] == pytest.approx(boxes_of[1], rel=0, abs=0, nan_ok=True)


def without(truth: Truth) -> dict[str, Any]:
    """No object."""
    fields = truth.objects._asdict()
    return {name: value[:0] for name, value in fields.items()}


def test_results_have_the_numbers_of_the_data_set(
    measured: tuple[list[Truth], list[Found], dict[int, int]],
) -> None:
    truths, found, places = measured
    rows = result_rows(truths, found, masks=True, numbers={label: n for n, label in places.items()})
    assert {row["category_id"] for row in rows} <= set(places)
    assert {row["image_id"] for row in rows} <= {one.number for one in truths}
    assert all("bbox" not in row for row in rows)  # else small and large would go by the boxes
    known = {label: number for label, number in enumerate(sorted(places)) if label != 2}
    fewer = result_rows(truths, found, masks=True, numbers=known)
    assert len(fewer) == len(rows) - sum(int((one.labels == 2).sum()) for one in found) < len(rows)
