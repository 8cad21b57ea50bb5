"""Folders that are not COCO's, and pictures whose names differ by their extension alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from configs import compose_train
from PIL import Image
from shapes import write_shapes

from hornet_train.errors import DataError
from hornet_train.tasks.detection.build.open_data import open_objects


def data_of(root: Path) -> Any:
    return compose_train(["recipe=objects", f"data.root={root}"]).config.data


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (["images/a.jpg", "labels/a.txt", "data.yaml"], "YOLO, whose labels have to be converted"),
        (["Annotations/a.xml", "JPEGImages/a.jpg"], "Pascal VOC, which data=voc reads"),
        (["train/a.jpg", "train/a.xml"], "Pascal VOC, which data=voc reads"),
        (["train/a.jpg"], "data.train_json= names it$"),
    ],
)
def test_another_kind_of_folder_is_recognised(tmp_path: Path, files: list[str], told: str) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=told):
        open_objects(data_of(tmp_path))


def test_pictures_of_one_stem_have_names_of_their_own(tmp_path: Path) -> None:
    root = write_shapes(tmp_path / "data", train=2, val=3)
    content = json.loads((root / "val.json").read_text())
    first, second, third = content["images"]
    second["file_name"] = Path(first["file_name"]).with_suffix(".png").name
    Image.fromarray(np.zeros((48, 48, 3), dtype=np.uint8)).save(
        root / "images/validation" / second["file_name"]
    )
    (root / "val.json").write_text(json.dumps(content))
    val = open_objects(data_of(root)).val
    assert val is not None
    names = {val.name(place) for place in range(3)}
    assert names == {first["file_name"], second["file_name"], Path(third["file_name"]).stem}


def test_dropped_objects_are_told_where_none_is_left(tmp_path: Path) -> None:
    root = write_shapes(tmp_path / "data", train=2, val=1)
    content = json.loads((root / "train.json").read_text())
    for one in content["annotations"]:
        one["category_id"] = 99
    (root / "train.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"no picture has an object .*\n.*category_id is no category"):
        open_objects(data_of(root))
