"""Pictures with an EXIF orientation: upright where they then have the size of their annotation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from configs import compose_train
from PIL import Image, ImageOps

from hornet_train.data.sources.source import Encoded
from hornet_train.images.orientation import exif_of
from hornet_train.prepare.check_dataset import check
from hornet_train.tasks.detection.build.open_data import open_objects
from hornet_train.tasks.detection.layout.check_objects import check_pictures
from hornet_train.tasks.detection.samples import PictureSamples, TrainSamples
from hornet_train.tasks.detection.transforms import EvalTransform, TrainTransform


def data_of(root: Path, sizes: dict[str, tuple[tuple[int, int], int, tuple[int, int]]]) -> Any:
    """Pictures of (height, width) with an orientation, annotated for another (height, width)."""
    (root / "images").mkdir()
    rng = np.random.default_rng(0)
    images = []
    for number, (name, (stored, orientation, annotated)) in enumerate(sizes.items()):
        pixels = rng.integers(256, size=(*stored, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"images/{name}.png", exif=exif_of(orientation))
        images.append(
            {"id": number, "file_name": f"{name}.png", "height": annotated[0], "width": annotated[1]}
        )
    box = {"bbox": [1, 2, 10, 12], "area": 120, "iscrowd": 0, "category_id": 1}
    annotations = [{"id": n + 1, "image_id": n, **box} for n in range(len(images))]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}
    (root / "train.json").write_text(json.dumps(content))
    keys = ["recipe=objects", f"data.root={root}", "data.val=false", "model.masks=false"]
    return compose_train(keys).config.data


def test_which_way_pictures_are_taken(tmp_path: Path) -> None:
    sizes = {
        "lying": ((40, 60), 6, (60, 40)),
        "half": ((40, 60), 3, (40, 60)),
        "square": ((48, 48), 8, (48, 48)),
        "stored": ((40, 60), 6, (40, 60)),
        "plain": ((40, 60), 1, (40, 60)),
    }
    data = data_of(tmp_path, sizes)
    pictures = open_objects(data).train
    assert pictures is not None
    samples = TrainSamples(TrainTransform(), 0, masks=False)
    for index, name in enumerate(sizes):
        with Image.open(tmp_path / f"images/{name}.png") as image:
            expected = np.asarray(image if name == "stored" else ImageOps.exif_transpose(image))
        found = samples.decode(pictures.read(index)).image.permute(1, 2, 0)
        assert np.array_equal(found, expected), name
    found = check_pictures(data)
    assert not found.faults
    told = " ".join(found.warnings)
    assert "2 pictures turned by the EXIF orientation" in told
    assert "1 picture with an EXIF orientation that is not taken" in told
    check(found, workers=1, timeout=60, damaged_csv=tmp_path / "damaged.csv")
    assert not any("data.exif" in warning for warning in found.warnings)  # a key of classification


def test_pictures_can_be_left_unopened(tmp_path: Path) -> None:
    data = data_of(tmp_path, {"a": ((40, 60), 1, (40, 60))})
    (tmp_path / "images/a.png").write_bytes(b"no picture")
    assert not check_pictures(data, open_files=False).faults
    assert check_pictures(data).faults


@pytest.mark.parametrize("orientation", [3, 6])
def test_pictures_without_annotation_stand_upright(orientation: int, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    pixels = np.random.default_rng(1).integers(256, size=(40, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, exif=exif_of(orientation))
    stored = Encoded(path.read_bytes(), str(path))
    found = PictureSamples((EvalTransform(None),)).decode({"image": stored})
    with Image.open(path) as image:
        assert np.array_equal(found.permute(1, 2, 0), np.asarray(ImageOps.exif_transpose(image)))
