"""Figures of an evaluation are drawn whatever classes and files are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hornet_train.tasks.detection.average_precision import Precision
from hornet_train.tasks.detection.figures import draw_precision, draw_worst
from hornet_train.tasks.detection.gallery import Seen

NAMES = ["_background", "US$ and $x__y$", "\u9e1f", "cat"]


def precision(classes: int) -> Precision:
    curves = np.linspace(90, 10, 101)[None].repeat(classes, 0)
    return Precision({"box_ap": 50.0}, np.full(classes, 50.0), curves)


@pytest.mark.filterwarnings("error")
def test_any_name_is_drawn(tmp_path: Path) -> None:
    found = {"box": precision(4), "mask": precision(4)}
    draw_precision(found, [3, 1, 2, 4], NAMES, tmp_path / "precision.png", "a $b__c$ folder")
    picture = np.full((40, 60, 3), 200, dtype=np.uint8)
    seen = [Seen(2, 0, "/data/a$b__c$d.jpg", "1 missed", (picture, picture))]
    draw_worst(seen, tmp_path / "worst.png", "$")
    for name in ("precision.png", "worst.png"):
        with Image.open(tmp_path / name) as image:
            assert np.asarray(image).std() > 1


@pytest.mark.filterwarnings("error")
def test_no_object_at_all(tmp_path: Path) -> None:
    draw_precision({"box": precision(4)}, [0] * 4, NAMES, tmp_path / "precision.png", "nothing")
    assert (tmp_path / "precision.png").stat().st_size > 1000
