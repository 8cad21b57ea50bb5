"""What `hornet-data check` says of masks and boxes."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from configs import compose_train

from hornet_train.errors import DataError
from hornet_train.tasks.detection.layout.check_objects import check_pictures
from hornet_train.tasks.detection.rle import mask_code
from hornet_train.tasks.detection.sources.coco_json import read_coco

SIZE = (90, 120)


def annotation(number: int, left: int, top: int, *, moved: float, coded: bool) -> dict[str, Any]:
    """A triangle of 20 x 10 pixels, with its box moved to the right."""
    ring = [left, top, left + 20, top, left, top + 10]
    outline: Any = [ring]
    if coded:
        rle = mask_code((np.array(ring, dtype=np.float64).reshape(-1, 2),), SIZE)
        assert rle is not None
        outline = {"size": list(SIZE), "counts": rle.counts.decode()}
    box = [left + moved, top, 20, 10]
    return {"id": number, "image_id": 1, "category_id": 1, "bbox": box, "segmentation": outline, "area": 100}


@pytest.mark.parametrize("corners", [False, True])
def test_boxes_that_are_corners(corners: bool, tmp_path: Path) -> None:
    boxes = np.random.default_rng(0).integers((1, 1, 5, 5), (80, 60, 40, 30), size=(20, 4))
    boxes[:, 2:] += boxes[:, :2] if corners else 0
    annotations = [{"image_id": 1, "category_id": 1, "bbox": box} for box in boxes.tolist()]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="convert them") if corners else nullcontext():
        assert read_coco(tmp_path / "train.json").objects.objects == 20


def test_masks_apart_from_their_boxes(tmp_path: Path) -> None:
    """Polygons, codes and objects without either, in any order; what lies out of the picture is cut off."""
    annotations = [
        annotation(11, 30, 20, moved=0, coded=False),
        annotation(12, 30, 20, moved=0, coded=True),
        {**annotation(13, 5, 5, moved=40, coded=False), "segmentation": []},
        annotation(14, 30, 40, moved=3, coded=True),
        annotation(15, 10, 60, moved=-3, coded=False),
        {**annotation(16, 110, 50, moved=0, coded=False), "bbox": [110, 50, 10, 10]},
        annotation(17, 50, 50, moved=1, coded=False),
    ]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
        "annotations": [{"iscrowd": 0, **one} for one in annotations],
        "categories": [{"id": 1, "name": "a"}],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").touch()
    data = compose_train(["recipe=objects", f"data.root={tmp_path}", "data.val=false"]).config.data
    (told,) = (
        one for one in check_pictures(data, open_files=False).warnings if "masks" in one and "bbox" in one
    )
    assert told.endswith("2 bboxes are 2 pixels or more from those of their masks: id 14, id 15")
