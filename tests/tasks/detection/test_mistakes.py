"""What is marked as missed and as a false alarm."""

from __future__ import annotations

import numpy as np

from hornet_train.tasks.detection.average_precision import Found
from hornet_train.tasks.detection.mistakes import compare
from hornet_train.tasks.detection.objects import PictureObjects


def objects(*rows: tuple[int, int, int, int, int, bool]) -> PictureObjects:
    """Left, top, width, height, label, crowd of each."""
    table = np.array([row[:4] for row in rows], dtype=np.float64).reshape(-1, 4)
    labels = np.array([row[4] for row in rows], dtype=np.int64)
    crowd = np.array([row[5] for row in rows], dtype=bool)
    return PictureObjects(table, labels, crowd, table[:, 2] * table[:, 3], labels + 1, (None,) * len(rows))


def found(*rows: tuple[int, int, int, int, int, float]) -> Found:
    """Left, top, right, bottom, label, score of each."""
    return Found(
        np.array([row[:4] for row in rows], dtype=np.float32).reshape(-1, 4),
        np.array([row[5] for row in rows], dtype=np.float32),
        np.array([row[4] for row in rows], dtype=np.int64),
        (),
    )


def test_each_object_is_found_once() -> None:
    here = objects((0, 0, 10, 10, 0, False), (50, 50, 10, 10, 1, False), (80, 0, 10, 10, 0, False))
    there = found(
        (0, 0, 10, 11, 0, 0.9),
        (0, 0, 10, 10, 0, 0.8),  # again
        (50, 50, 60, 60, 0, 0.7),  # of another class
        (80, 0, 90, 10, 0, 0.3),  # not sure enough
    )
    mistakes = compare(here, there)
    assert mistakes.shown.tolist() == [0, 1, 2]
    assert mistakes.false.tolist() == [False, True, True]
    assert mistakes.missed.tolist() == [False, True, True]
    assert mistakes.number == 4


def test_crowds_are_neither_missed_nor_false_alarms() -> None:
    here = objects((0, 0, 40, 40, 0, True))
    mistakes = compare(here, found((1, 1, 9, 9, 0, 0.9), (20, 20, 60, 60, 0, 0.8), (1, 1, 9, 9, 1, 0.8)))
    assert mistakes.missed.tolist() == [False]
    assert mistakes.false.tolist() == [False, True, True]


def test_pictures_without_objects_or_detections() -> None:
    assert compare(objects(), found((0, 0, 9, 9, 0, 0.9))).false.tolist() == [True]
    assert compare(objects((0, 0, 9, 9, 0, False)), found()).missed.tolist() == [True]
    assert compare(objects(), found()).number == 0
