"""Which objects of a picture are missed, and which detections are false alarms, for people to look at.

COCO's tools match at ten overlaps and all scores; a picture shows one choice of these.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from hornet_train.tasks.detection.average_precision import Found
from hornet_train.tasks.detection.boxes import corners_of
from hornet_train.tasks.detection.objects import PictureObjects

LEAST_SCORE = 0.5
_OVERLAP = 0.5  # IoU of boxes from which on a detection is of an object

Flags = np.ndarray[Any, np.dtype[np.bool_]]


class Mistakes(NamedTuple):
    """Of a picture.

    Attributes:
        shown: which detections have a score to be looked at, the highest first: places, (D,).
        false: which of these are of no object, bool (D,).
        missed: which objects no detection is of, bool (N,); never crowds.
    """

    shown: np.ndarray
    false: Flags
    missed: Flags

    @property
    def number(self) -> int:
        """Of misses and false alarms."""
        return int(self.false.sum() + self.missed.sum())


def compare(objects: PictureObjects, found: Found) -> Mistakes:
    """Each detection, the highest score first, takes the object of its class that it overlaps most.

    One within a crowd region of its class is no false alarm.
    """
    shown = np.flatnonzero(found.scores >= LEAST_SCORE)
    truth = corners_of(objects.boxes)
    overlaps = _overlaps(found.boxes[shown].astype(np.float64), truth)
    same = found.labels[shown][:, None] == objects.labels[None]
    open_to = same & ~objects.crowd
    missed = ~objects.crowd
    false = np.ones(len(shown), dtype=bool)
    for place in range(len(shown)):
        candidates = np.where(open_to[place] & missed, overlaps[place], 0.0)
        if len(candidates) and candidates.max() >= _OVERLAP:
            missed[int(candidates.argmax())] = False
            false[place] = False
    crowded = same & objects.crowd & (_inside(found.boxes[shown].astype(np.float64), truth) >= _OVERLAP)
    return Mistakes(shown, false & ~crowded.any(1), missed)


def _common(a_N4: np.ndarray, b_M4: np.ndarray) -> np.ndarray:
    """Pixels that boxes have in common, (N, M)."""
    low = np.maximum(a_N4[:, None, :2], b_M4[None, :, :2])
    high = np.minimum(a_N4[:, None, 2:], b_M4[None, :, 2:])
    found: np.ndarray = (high - low).clip(0).prod(2)
    return found


def _overlaps(a_N4: np.ndarray, b_M4: np.ndarray) -> np.ndarray:
    """Intersection over union, (N, M)."""
    common = _common(a_N4, b_M4)
    found: np.ndarray = common / np.maximum(_areas(a_N4)[:, None] + _areas(b_M4)[None] - common, 1e-9)
    return found


def _inside(a_N4: np.ndarray, b_M4: np.ndarray) -> np.ndarray:
    """The share of each first box that lies in each second one, (N, M)."""
    found: np.ndarray = _common(a_N4, b_M4) / np.maximum(_areas(a_N4)[:, None], 1e-9)
    return found


def _areas(boxes_N4: np.ndarray) -> np.ndarray:
    found: np.ndarray = (boxes_N4[:, 2:] - boxes_N4[:, :2]).clip(0).prod(1)
    return found
