"""Folders as programs for annotation write them: which file and which pictures are taken, what is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from configs import compose_train
from PIL import Image

from hornet_train.errors import DataError
from hornet_train.tasks.detection.build.open_data import ObjectDatasets, open_objects
from hornet_train.tasks.detection.layout.check_objects import check_pictures, recognised

NAMES = [f"{number}.jpg" for number in range(6)]


def pictures(folder: Path, names: Sequence[str] = NAMES) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (64, 48), (200, 30, 30)).save(folder / name)


def coco(path: Path, prefix: str = "", **changed: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    box = {"bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0, "segmentation": [[5, 5, 25, 5, 25, 25, 5, 25]]}
    images = [
        {"id": number, "file_name": prefix + name, "width": 64, "height": 48}
        for number, name in enumerate(NAMES)
    ]
    annotations = [
        {"id": number + 1, "image_id": number, "category_id": 0, **box, **changed}
        for number in range(len(NAMES))
    ]
    content = {"images": images, "categories": [{"id": 0, "name": "a"}], "annotations": annotations}
    path.write_text(json.dumps(content), encoding="utf-8")


def voc(folder: Path, difficult: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (folder / f"{name[:-4]}.xml").write_text(
            "<annotation><size><width>64</width><height>48</height></size><object><name>a</name>"
            f"<difficult>{difficult}</difficult><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>25</xmax>"
            "<ymax>25</ymax></bndbox></object></annotation>"
        )


def opened(root: Path, *keys: str) -> ObjectDatasets:
    config: Any = compose_train(["recipe=objects", f"data.root={root}", *keys]).config
    return open_objects(config.data)


SHARED = ["data.val_share=0.4"]
# root of the JSON, what stands before file names, where the pictures are
UNSPLIT = {
    "Label Studio": ("result.json", "images/", "images"),
    "Label Studio on Windows": ("result.json", "images\\", "images"),
    "labelme's converter": ("annotations.json", "JPEGImages/", "JPEGImages"),
    "CVAT": ("annotations/instances_default.json", "", "images/default"),
    "one folder": ("labels.json", "", "."),
}


@pytest.mark.parametrize("case", UNSPLIT)
def test_layouts_without_a_split(case: str, tmp_path: Path) -> None:
    file, prefix, place = UNSPLIT[case]
    coco(tmp_path / file, prefix)
    pictures(tmp_path / place)
    (tmp_path / file).with_name("._" + Path(file).name).write_bytes(b"of a Mac")
    found = opened(tmp_path, *SHARED)
    assert found.train is not None
    assert found.val is not None
    assert len(found.train) + len(found.val) == 6
    assert all(found.train.read(place)["image"].data for place in range(len(found.train)))
    assert not check_pictures(recognised(tmp_path)).faults
    with pytest.raises(DataError, match=r"no JSON of held-out pictures .*data.val_share=0\.2"):
        opened(tmp_path)


SPLIT = {
    "Roboflow": [("{}/_annotations.coco.json", "", "{}")],
    "CVAT": [("annotations/instances_{}.json", "", "images/{}")],
    "prefixes": [("{}.json", "{}/", "images/{}")],
    "whole prefixes": [("annotations/{}.json", "images/{}/", "images/{}")],
    "COCO's other files": [
        ("annotations/instances_{}2017.json", "", "{}2017"),
        ("annotations/captions_{}2017.json", "", "{}2017"),
        ("annotations/person_keypoints_{}2017.json", "", "{}2017"),
    ],
}


@pytest.mark.parametrize("case", SPLIT)
def test_layouts_with_a_split(case: str, tmp_path: Path) -> None:
    for split in ("train", "valid" if case == "Roboflow" else "val"):
        for file, prefix, place in SPLIT[case]:
            coco(tmp_path / file.format(split), prefix.format(split))
            pictures(tmp_path / place.format(split))
    found = opened(tmp_path, *(["data.train_images=train2017", "data.val_images=val2017"] * ("COCO" in case)))
    assert found.train is not None
    assert found.val is not None
    assert "train" in found.train.locate(0)
    assert "val" in found.val.locate(0)
    assert not [note for note in found.notes if "split" in note]
    with pytest.raises(DataError, match=r"data.val_share=0.4, but .* is there"):
        opened(tmp_path, *SHARED)


def test_held_out_pictures_are_not_trained_on(tmp_path: Path) -> None:
    pictures(tmp_path / "images")
    coco(tmp_path / "val.json")
    with pytest.raises(DataError, match="no JSON of training pictures"):
        opened(tmp_path)
    with pytest.raises(DataError, match="both to train on and to be held out"):
        opened(tmp_path, "data.train_json=val.json")
    (tmp_path / "val.json").rename(tmp_path / "test.json")
    with pytest.raises(DataError, match="no JSON of training pictures"):
        opened(tmp_path, *SHARED)


def test_pictures_of_another_split_do_not_stand_in(tmp_path: Path) -> None:
    """File names are the same in both, and those of one split are missing."""
    for split in ("train", "val"):
        coco(tmp_path / f"{split}.json")
    pictures(tmp_path / "images/train")
    with pytest.raises(DataError, match=r"6 of 6 pictures are not in .*data.train_images="):
        opened(tmp_path)


@pytest.mark.parametrize("kind", ["coco_folder", "voc"])
def test_a_test_set_stands_in_and_is_told(kind: str, tmp_path: Path) -> None:
    for split in ("train", "test"):
        pictures(tmp_path / split)
        if kind == "voc":
            voc(tmp_path / split)
        else:
            coco(tmp_path / split / "_annotations.coco.json")
    keys = ["data=voc", "model.masks=false"] if kind == "voc" else []
    (told,) = (note for note in opened(tmp_path, *keys).notes if "there is no split 'val'" in note)
    assert "test" in told
    found = opened(tmp_path, *keys, *SHARED)
    assert found.val is not None
    assert "train" in found.val.locate(0)


@pytest.mark.parametrize("place", [("Annotations", "JPEGImages"), (".", ".")])
def test_xml_that_nothing_splits(place: tuple[str, str], tmp_path: Path) -> None:
    voc(tmp_path / place[0])
    pictures(tmp_path / place[1])
    keys = ["data=voc", "model.masks=false"]
    with pytest.raises(DataError, match=r"where nothing is split, data.val_share=0\.2 holds out a fifth"):
        opened(tmp_path, *keys)
    found = opened(tmp_path, *keys, *SHARED)
    assert found.train is not None
    assert found.val is not None
    assert len(found.train) + len(found.val) == 6
    if place[0] != ".":
        assert recognised(tmp_path).source == "voc"
        assert not check_pictures(recognised(tmp_path)).faults


def test_json_in_a_folder_called_as_in_voc(tmp_path: Path) -> None:
    coco(tmp_path / "Annotations/train.json")
    pictures(tmp_path / "images")
    assert recognised(tmp_path).source == "coco_folder"
    assert not check_pictures(recognised(tmp_path)).faults


def test_one_file_a_picture_is_told(tmp_path: Path) -> None:
    pictures(tmp_path)
    for name in NAMES:
        (tmp_path / f"{name[:-4]}.json").write_text(json.dumps({"shapes": [], "imagePath": name}))
    with pytest.raises(DataError, match="labelme's, one file a picture"):
        opened(tmp_path, *SHARED)


@pytest.mark.parametrize("kind", ["coco_folder", "voc"])
def test_nothing_but_crowds(kind: str, tmp_path: Path) -> None:
    pictures(tmp_path / "train")
    if kind == "voc":
        voc(tmp_path / "train", difficult=1)
    else:
        coco(tmp_path / "train/labels.json", iscrowd=1)
    keys = ["data=voc", "model.masks=false", "data.val_split=null"] if kind == "voc" else ["data.val=false"]
    with pytest.raises(DataError, match="6 crowd or difficult objects"):
        opened(tmp_path, *keys)
    if kind != "voc":
        (fault,) = check_pictures(recognised(tmp_path)).faults
        assert "6 crowd or difficult objects" in fault
