"""Pascal VOC's XML, in VOC's folders and in anyone's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from hornet_train.config.schema import Config
from hornet_train.errors import DataError
from hornet_train.tasks.detection.build.open_data import open_objects
from hornet_train.tasks.detection.layout.check_objects import check_pictures, recognised
from hornet_train.tasks.detection.samples import decode_picture
from hornet_train.tasks.detection.sources.voc_xml import find, read_voc

Row = tuple[str, int, int, int, int, int]  # class, xmin, ymin, xmax, ymax, difficult


def written(name: str, rows: list[Row], size: tuple[int, int] = (40, 60)) -> str:
    objects = "".join(
        f"<object><name>{kind}</name><difficult>{hard}</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin>"
        f"<xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for kind, x1, y1, x2, y2, hard in rows
    )
    height, width = size
    return (
        f"<annotation><filename>{name}.jpg</filename><size><width>{width}</width><height>{height}</height>"
        f"<depth>3</depth></size>{objects}</annotation>"
    )


def put(annotations: Path, pictures: Path, name: str, rows: list[Row]) -> None:
    for folder in (annotations, pictures):
        folder.mkdir(parents=True, exist_ok=True)
    (annotations / f"{name}.xml").write_text(written(name, rows))
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(pictures / f"{name}.jpg")


TRAIN: dict[str, list[Row]] = {
    "b": [("dog", 1, 1, 60, 40, 0), ("cat", 11, 6, 20, 25, 1)],
    "a": [("cat", 31, 1, 40, 10, 0)],
}
VAL: dict[str, list[Row]] = {"c": [("bird", 2, 3, 12, 13, 0)]}


@pytest.fixture(params=["voc", "devkit", "folders"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same pictures in three layouts."""
    top = tmp_path / "VOC2012" if request.param == "devkit" else tmp_path
    for split, pictures in (("train", TRAIN), ("val", VAL)):
        for name, rows in pictures.items():
            if request.param == "folders":
                put(top / split, top / split, name, rows)
            else:
                put(top / "Annotations", top / "JPEGImages", name, rows)
        if request.param != "folders":
            (top / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
            (top / f"ImageSets/Main/{split}.txt").write_text(
                "".join(f"{name} -1\n" for name in sorted(pictures))
            )
    return tmp_path


def data_of(root: Path, **keys: Any) -> Any:
    from configs import compose_train

    more = [f"data.{key}={'null' if value is None else value}" for key, value in keys.items()]
    config: Config = compose_train(
        ["data=voc", f"data.root={root}", "model.backbone=resnet18", "model.masks=false", *more]
    ).config
    return config.data


def test_boxes_are_counted_from_zero_and_end_with_their_last_pixel(root: Path) -> None:
    opened = open_objects(data_of(root))
    assert opened.classes == ("bird", "cat", "dog")  # alphabetical, of both splits
    assert opened.train is not None
    assert opened.val is not None
    assert [opened.train.name(place) for place in (0, 1)] == ["a", "b"]
    whole = opened.train.objects.of(1)
    assert whole.boxes.tolist() == [[0, 0, 60, 40], [10, 5, 10, 20]]
    assert whole.labels.tolist() == [2, 1]
    assert whole.crowd.tolist() == [False, True]  # the difficult one is not trained on
    assert opened.val.objects.of(0).labels.tolist() == [0]
    assert decode_picture(opened.val.read(0)).image.shape == (3, 40, 60)
    assert not opened.val.objects.outlined.any()


def test_a_share_is_held_out_where_there_is_no_split(root: Path) -> None:
    opened = open_objects(data_of(root, val_share=0.5))
    assert opened.train is not None
    assert opened.val is not None
    assert len(opened.train) == len(opened.val) == 1
    again = open_objects(data_of(root, val_share=0.5), training=False, classes=opened.classes)
    assert again.val is not None
    assert again.val.fingerprint == opened.val.fingerprint


def test_a_folder_is_recognised_and_checked(root: Path) -> None:
    data = recognised(root)
    assert data.source == "voc"
    found = check_pictures(data)
    assert not found.faults
    assert any("cat 2" in line for line in found.lines)


def test_extensions_may_be_in_capitals(root: Path) -> None:
    before = open_objects(data_of(root)).train
    (file,) = root.rglob("a.xml")
    file.rename(file.with_suffix(".XML"))
    after = open_objects(data_of(root)).train
    assert before is not None
    assert after is not None
    assert after.fingerprint == before.fingerprint


def spoilt(root: Path, change: str) -> None:
    (file,) = root.rglob("a.xml")
    text = file.read_text()
    if change == "truncated":
        file.write_text(text[:-30])
    elif change == "entities":
        file.write_text('<!DOCTYPE a [<!ENTITY b "c">]>' + text)
    elif change == "gone":
        file.unlink()
    elif change == "picture":
        next(root.rglob("a.jpg")).unlink()


@pytest.mark.parametrize(
    ("change", "told"),
    [("truncated", "no XML"), ("entities", "declares entities"), ("picture", "1 of 2 pictures are not in")],
)
def test_what_cannot_be_read_is_named(root: Path, change: str, told: str) -> None:
    spoilt(root, change)
    with pytest.raises(DataError, match=told):
        open_objects(data_of(root))


def test_odd_objects_are_left_out_and_named(tmp_path: Path) -> None:
    put(tmp_path / "train", tmp_path / "train", "a", TRAIN["a"])
    text = written("a", [("cat", 31, 1, 40, 10, 0), ("", 1, 1, 9, 9, 0), ("dog", 5, 5, 5, 9, 0)])
    (tmp_path / "train/a.xml").write_text(text.replace("<xmax>5</xmax>", "<xmax>x</xmax>"))
    files = find(tmp_path, "train")
    assert files is not None
    read, _ = read_voc(files)
    assert read.objects.objects == 1
    said = " ".join(read.notes())
    assert "it has no name (1 object: a.xml object 2)" in said
    assert "its bndbox is not four numbers (1 object: a.xml object 3)" in said


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    put(tmp_path / "train", tmp_path / "train", "a", TRAIN["a"])
    with pytest.raises(
        DataError, match=r"neither ImageSets/Main/val\.txt nor a folder val: data\.val_split="
    ):
        open_objects(data_of(tmp_path))
    assert open_objects(data_of(tmp_path, val_split=None)).val is None
