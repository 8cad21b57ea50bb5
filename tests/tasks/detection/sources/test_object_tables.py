"""Pictures with objects in tables of `datasets`, in the forms that people store them in."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from configs import compose_train
from PIL import Image

from hornet_train.errors import DataError
from hornet_train.tasks.detection.build.open_data import open_objects
from hornet_train.tasks.detection.samples import decode_picture

CLASSES = ["cat", "dog"]
ROWS: list[list[tuple[list[float], int]]] = [
    [([1.0, 2.0, 10.0, 12.0], 1), ([20.0, 5.0, 8.0, 9.0], 0)],
    [],
    [([0.0, 0.0, 30.0, 20.0], 1)],
]


def picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((40 + number, 50, 3), 40 * number, np.uint8)).save(file, "PNG")
    return file.getvalue()


def written(folder: Path, form: str, split: str, *, corners: bool = False, **more: Any) -> Path:
    """The rows as parquet: `lists` in one struct, `structs` in one list, or `named` classes as text."""
    import datasets

    category: Any = datasets.ClassLabel(names=CLASSES) if form != "named" else datasets.Value("string")
    fields = {"bbox": datasets.List(datasets.Value("float64"), length=4), "category": category}
    rows = []
    for number, row in enumerate(ROWS):
        boxes = [[x, y, x + w, y + h] if corners else [x, y, w, h] for (x, y, w, h), _ in row]
        labels = [CLASSES[label] if form == "named" else label for _, label in row]
        objects: Any = {"bbox": boxes, "category": labels}
        if form == "structs":
            objects = [{"bbox": box, "category": one} for box, one in zip(boxes, labels, strict=True)]
        rows.append(
            {"image": {"bytes": picture(number), "path": None}, "objects": objects}
            | {k: v[number] for k, v in more.items()}
        )
    kind: Any = {name: datasets.List(feature) for name, feature in fields.items()}
    features = {
        "image": datasets.Image(),
        "objects": datasets.List(fields) if form == "structs" else kind,
        **{name: datasets.Value("int64") for name in more},
    }
    datasets.utils.disable_progress_bars()
    table = datasets.Dataset.from_list(rows, features=datasets.Features(features))
    (folder / "data").mkdir(parents=True, exist_ok=True)
    table.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def data_of(folder: Path, *more: str) -> Any:
    given = [
        "task=detection",
        "data=hub",
        f"data.name={folder}",
        "model.backbone=resnet18",
        "data.empty=true",
    ]
    return compose_train([*given, "model.masks=false", *more]).config.data


@pytest.mark.parametrize("form", ["lists", "structs", "named"])
def test_each_form_gives_the_same(tmp_path: Path, form: str) -> None:
    for split in ("train", "validation"):
        written(tmp_path / form, form, split)
    opened = open_objects(data_of(tmp_path / form))
    assert opened.classes == tuple(CLASSES)
    assert opened.train is not None
    assert opened.val is not None
    assert len(opened.train) == len(opened.val) == 3
    found = opened.val.objects
    assert found.of(0).boxes.tolist() == [box for box, _ in ROWS[0]]
    assert found.of(0).labels.tolist() == [1, 0]
    assert found.of(0).areas.tolist() == [120, 72]
    assert found.of(1).labels.tolist() == []
    assert opened.val.sizes.tolist() == [[40, 50], [41, 50], [42, 50]]
    sent = pickle.loads(pickle.dumps(opened.val))  # as to a worker
    assert decode_picture(sent.read(2)).image.shape == (3, 42, 50)
    assert sent.fingerprint == opened.val.fingerprint


def test_corners_and_numbers_of_pictures(tmp_path: Path) -> None:
    written(
        tmp_path, "lists", "train", corners=True, image_id=[7, 9, 8], height=[40, 41, 42], width=[50, 50, 50]
    )
    opened = open_objects(data_of(tmp_path, "data.val_split=null", "data.box_format=xyxy"))
    assert opened.train is not None
    assert opened.train.numbers.tolist() == [7, 9, 8]
    assert opened.train.objects.of(0).boxes.tolist() == [box for box, _ in ROWS[0]]
    part = opened.train.part([2, 0])
    assert part.numbers.tolist() == [8, 7]
    assert part.objects.of(0).boxes.tolist() == [ROWS[2][0][0]]
    assert decode_picture(part.read(0)).image.shape == (3, 42, 50)


def test_corners_that_nobody_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[([20.0 + number, 15.0, 20.0, 20.0], 1)] * 2 for number in range(3)]
    monkeypatch.setitem(globals(), "ROWS", rows)
    data = data_of(written(tmp_path, "lists", "train", corners=True), "data.val_split=null")
    with pytest.raises(DataError, match=r"data.box_format=xyxy"):
        open_objects(data)


def test_unknown_sizes_and_boxes(tmp_path: Path) -> None:
    """Missing numbers are no traceback; an object of a picture of unknown size is kept."""
    written(tmp_path, "lists", "train", height=[40, None, 42], width=[50, None, None])
    opened = open_objects(data_of(tmp_path, "data.val_split=null"))
    assert opened.train is not None
    assert opened.train.sizes.tolist() == [[40, 50], [0, 0], [42, 0]]
    assert len(opened.train.objects.of(2).labels) == len(ROWS[2])
    assert not any("outside" in note for note in opened.notes)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"area": []}, None),
        ({"area": [1.0]}, "row 0: objects.area has 1 value for 2 boxes"),
        ({"category": ["cat"]}, "row 0: objects.category has 1 value for 2 boxes"),
        ({"category": []}, "row 0: objects.category has 0 values for 2 boxes"),
    ],
)
def test_no_object_is_lost_where_lists_differ(
    tmp_path: Path, changed: dict[str, list[Any]], told: str | None
) -> None:
    import datasets

    boxes = [box for box, _ in ROWS[0]]
    full = {"bbox": boxes, "category": ["dog", "cat"], "area": [120.0, 72.0]}
    rows = [
        {"image": {"bytes": picture(0), "path": None}, "objects": {**full, **changed}},
        {"image": {"bytes": picture(1), "path": None}, "objects": full},
    ]
    kinds = {"bbox": datasets.List(datasets.Value("float64")), "category": datasets.Value("string")}
    fields: Any = {
        name: datasets.List(kind) for name, kind in {**kinds, "area": datasets.Value("float64")}.items()
    }
    features = datasets.Features({"image": datasets.Image(), "objects": fields})
    (tmp_path / "data").mkdir()
    datasets.Dataset.from_list(rows, features=features).to_parquet(
        tmp_path / "data/train-00000-of-00001.parquet"
    )
    if told is not None:
        with pytest.raises(DataError, match=told):
            open_objects(data_of(tmp_path, "data.val_split=null"))
        return
    opened = open_objects(data_of(tmp_path, "data.val_split=null"))
    assert opened.train is not None
    assert opened.train.objects.of(0).labels.tolist() == [1, 0]
    assert opened.train.objects.of(0).areas.tolist() == [120, 72]


def test_a_table_without_objects_is_refused(tmp_path: Path) -> None:
    import datasets

    rows = [{"image": {"bytes": picture(0), "path": None}, "label": 1}]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    (tmp_path / "data").mkdir()
    table = datasets.Dataset.from_list(rows, features=features)
    table.to_parquet(tmp_path / "data/train-00000-of-00001.parquet")
    with pytest.raises(DataError, match=r"no columns of pictures and of objects.*data\.objects_column="):
        open_objects(data_of(tmp_path, "data.val_split=null"))
    with pytest.raises(DataError, match=r"data\.objects_column=label: .* has no such column"):
        open_objects(data_of(tmp_path, "data.val_split=null", "data.objects_column=label"))
