"""COCO's average precision, by faster-coco-eval, which gives pycocotools' numbers (the difference is 0)."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster

from hornet_train.images.layout import Points
from hornet_train.tasks.detection.metrics import KINDS, SUMMARY
from hornet_train.tasks.detection.objects import PictureObjects, Rle

Floats = np.ndarray[Any, np.dtype[np.float64]]
_PERCENT = 100


class Found(NamedTuple):
    """The detections in a picture, the highest score first.

    Attributes:
        boxes: float32 (D, 4), corners in pixels of the stored picture.
        scores: float32 (D,).
        labels: int64 (D,).
        masks: D codes, or none where boxes alone are found.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: tuple[Rle, ...]


class Truth(NamedTuple):
    """What is annotated in a picture: its number in results, its (height, width), its objects."""

    number: int
    size: tuple[int, int]
    objects: PictureObjects


class Precision(NamedTuple):
    """What COCO's tools find for boxes or for masks, in per cent; NaN for what cannot be measured.

    Attributes:
        summary: by the keys of `SUMMARY`.
        per_class: AP of each class, (K,).
        curves: precision at recalls 0, .01, ... 1 and IoU .5 of each class, (K, 101).
    """

    summary: dict[str, float]
    per_class: Floats
    curves: Floats


def average_precision(
    truths: Sequence[Truth], found: Sequence[Found], classes: int, kind: str, present: Sequence[int]
) -> Precision:
    """Measure detections.

    Args:
        truths, found: of the same pictures.
        classes: K.
        kind: "box" or "mask".
        present: the classes that the data set knows; others have no part in the means.
    """
    truth = {
        "images": [{"id": one.number, "height": one.size[0], "width": one.size[1]} for one in truths],
        "categories": [{"id": label + 1, "name": str(label)} for label in present],
        "annotations": annotation_rows(truths, masks=kind == "mask"),
    }
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO(truth)
        tool = COCOeval_faster(
            known,
            known.loadRes(result_rows(truths, found, masks=kind == "mask")),
            KINDS[kind],
            print_function=lambda *_: None,
        )
        tool.evaluate()
        tool.accumulate()
        tool.summarize()
    summary = {key: _share(value) for (key, _), value in zip(SUMMARY, tool.stats, strict=False)}
    precision = np.asarray(tool.eval["precision"])[..., 0, -1]  # (T, R, K') of all areas, 100 detections
    per_class, curves = np.full(classes, np.nan), np.full((classes, precision.shape[1]), np.nan)
    for place, label in enumerate(sorted(present)):
        of_class = precision[:, :, place]
        if (of_class > -1).any():
            per_class[label] = _PERCENT * of_class[of_class > -1].mean()
            curves[label] = _PERCENT * of_class[0]
    return Precision(summary, per_class, curves)


def annotation_rows(truths: Sequence[Truth], *, masks: bool) -> list[dict[str, Any]]:
    """What is annotated, as the COCO tools take it.

    Of masks: where an object has no outline, detections within its box are neither right nor wrong.
    """
    rows = []
    for one in truths:
        objects = one.objects
        for place, outline in enumerate(objects.outlines):
            row = {
                "id": int(objects.ids[place]),
                "image_id": one.number,
                "category_id": int(objects.labels[place]) + 1,
                "bbox": objects.boxes[place].tolist(),
                "area": float(objects.areas[place]),
                "iscrowd": int(objects.crowd[place]),
            }
            if masks and outline is not None:
                row["segmentation"] = _segmentation(outline)
            elif masks:
                left, top, width, height = objects.boxes[place].tolist()
                right, bottom = left + width, top + height
                row |= {"segmentation": [[left, top, right, top, right, bottom, left, bottom]], "iscrowd": 1}
            rows.append(row)
    return rows


def _segmentation(outline: tuple[Points, ...] | Rle) -> Any:
    if isinstance(outline, Rle):
        return {"size": list(outline.size), "counts": outline.counts.decode()}
    return [ring.reshape(-1).tolist() for ring in outline]


def result_rows(
    truths: Sequence[Truth],
    found: Sequence[Found],
    *,
    masks: bool,
    numbers: Mapping[int, int] | None = None,
) -> list[dict[str, Any]]:
    """Detections as the COCO tools take them.

    Args:
        truths: for the pictures' numbers.
        found: in the same order.
        masks: whether of masks. Then there are no boxes: the areas by which objects are small or large are
            those of the masks only where no box is given.
        numbers: label -> the data set's number of the class, others are left out; None for label + 1.
    """
    rows = []
    for one, detections in zip(truths, found, strict=True):
        for place, (box, score, label) in enumerate(
            zip(
                detections.boxes.tolist(), detections.scores.tolist(), detections.labels.tolist(), strict=True
            )
        ):
            left, top, right, bottom = box
            category = label + 1 if numbers is None else numbers.get(label)
            if category is None:
                continue
            row = {"image_id": one.number, "category_id": category, "score": score}
            if masks:
                row["segmentation"] = _segmentation(detections.masks[place])
            else:
                row["bbox"] = [left, top, right - left, bottom - top]
            rows.append(row)
    return rows


def _share(value: float) -> float:
    """In per cent; the COCO tools say -1 where there is nothing to measure."""
    return float("nan") if value < 0 else _PERCENT * float(value)
