"""Folders and tables of pictures with masks, whole and in every way that goes wrong."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from configs import compose_train
from helpers import run
from PIL import Image
from shapes import write_shapes

from hornet_train.errors import ConfigError, DataError, SampleError
from hornet_train.images.orientation import exif_of
from hornet_train.tasks.segmentation.build.kit import KIT, check_crop, class_weights
from hornet_train.tasks.segmentation.build.open_data import PictureDatasets, open_pictures
from hornet_train.tasks.segmentation.gallery import Gallery
from hornet_train.tasks.segmentation.metrics import IGNORED
from hornet_train.tasks.segmentation.samples import EvalSamples, decode_pair
from hornet_train.tasks.segmentation.transforms import EvalTransform


def opened(*overrides: str, **more: Any) -> PictureDatasets:
    return open_pictures(
        compose_train(["model=upernet", "model.backbone=resnet18", *overrides]).config.data, **more
    )


def masks(root: Path, *overrides: str, **more: Any) -> PictureDatasets:
    return opened("data=masks", f"data.root={root}", *overrides, **more)


def write(root: Path, split: str, name: str, labels: np.ndarray, picture: str = "jpg", **saved: Any) -> None:
    """A picture whose red value tells the label, and its mask."""
    for kind in ("images", "masks"):
        (root / kind / split).mkdir(parents=True, exist_ok=True)
    red = np.stack([labels * 20, labels * 0, labels * 0], axis=2).astype(np.uint8)
    Image.fromarray(red).save(root / "images" / split / f"{name}.{picture}", **saved)
    Image.fromarray(labels.astype(np.uint8)).save(root / "masks" / split / f"{name}.png")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Two splits of a few pictures of three classes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        for number in range(count):
            labels = rng.integers(0, 3, (40, 50))
            labels[0, :3] = [0, 1, 2]
            write(tmp_path, split, f"p{number}", labels)
    return tmp_path


def test_classes_without_names_are_counted(small: Path) -> None:
    found = masks(small)
    assert found.classes == ("0", "1", "2")
    assert found.train is not None
    assert found.val is not None
    assert (len(found.train), len(found.val)) == (6, 3)
    assert found.looked_at.pixels.sum() == 6 * 40 * 50
    pair = decode_pair(found.train.read(2))
    assert pair.mask.tolist() == np.array(Image.open(small / "masks/train/p2.png")).tolist()
    assert pair.where.endswith("images/train/p2.jpg")


@pytest.mark.parametrize("layout", ["splits first", "other names", "endings", "unsplit", "extensions"])
def test_folders_may_be_called_otherwise(small: Path, tmp_path: Path, layout: str) -> None:
    root, more = tmp_path / "other", []
    if layout == "splits first":
        for split, name in (("train", "Training"), ("val", "validation")):
            for kind in ("images", "masks"):
                shutil.copytree(small / kind / split, root / name / kind)
    elif layout == "other names":
        shutil.copytree(small / "images", root / "photos of mine")
        shutil.copytree(small / "masks", root / "truth")
        more = ["data.images_dir=photos of mine", "data.masks_dir=truth"]
    elif layout == "unsplit":
        shutil.copytree(small / "images/train", root / "images")
        shutil.copytree(small / "masks/train", root / "annotations")
        more = ["data.val_share=0.34"]
    else:
        shutil.copytree(small / "images", root / "images")
        shutil.copytree(small / "masks", root / "masks")
        for file in list((root / "masks").rglob("*.png")):
            file.rename(
                file.with_name(f"{file.stem}_mask.png") if layout == "endings" else file.with_suffix(".PNG")
            )
    found = masks(root, *more)
    assert found.train is not None
    assert found.val is not None
    expected = (4, 2) if layout == "unsplit" else (6, 3)
    assert (len(found.train), len(found.val)) == expected
    if layout == "unsplit":
        both = {source.locate(i) for source in (found.train, found.val) for i in range(len(source))}
        assert len(both) == 6


def test_ade20k_is_reduced_once_and_cityscapes_has_its_train_ids(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 150]], dtype=np.uint8).repeat(3, axis=0)
    root = tmp_path / "ADEChallengeData2016"
    for split in ("training", "validation"):
        for kind, suffix in (("images", "jpg"), ("annotations", "png")):
            (root / kind / split).mkdir(parents=True)
            Image.fromarray(labels).save(root / kind / split / f"a.{suffix}")
    found = opened("data=ade20k", f"data.root={tmp_path}")
    assert found.val is not None
    assert decode_pair(found.val.read(0)).mask[0].tolist() == [IGNORED, 0, 149]
    assert len(found.classes) == 150
    city = tmp_path / "city"
    ids = np.array([[0, 7, 8, 33, 4]], dtype=np.uint8)
    for split in ("train", "val"):
        for kind, ending in (
            ("leftImg8bit", "leftImg8bit"),
            ("gtFine", "gtFine_labelIds"),
            ("gtFine", "gtFine_color"),
        ):
            folder = city / kind / split / "aachen"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(ids).save(folder / f"aachen_000000_000019_{ending}.png")
    found = opened("data=cityscapes", f"data.root={city}")
    assert found.train is not None
    assert decode_pair(found.train.read(0)).mask[0].tolist() == [IGNORED, 0, 1, 18, IGNORED]
    assert found.classes[18] == "bicycle"


def test_pictures_stand_upright_where_they_then_have_the_size_of_their_mask(tmp_path: Path) -> None:
    labels = np.zeros((40, 60), dtype=np.uint8)
    labels[:20, :30] = 1
    lying = np.rot90(labels).copy()  # as a camera stores it that was held upright
    for kind in ("images", "masks"):
        (tmp_path / kind / "train").mkdir(parents=True)
    around = np.rot90(labels, 2).copy()
    for name, stored, orientation, mask in (
        ("turned", lying, 6, labels),
        ("half", around, 3, labels),
        ("plain", labels, 1, labels),
        ("stored", lying, 6, lying),
    ):
        red = np.stack([stored * 200] * 3, axis=2).astype(np.uint8)
        Image.fromarray(red).save(tmp_path / f"images/train/{name}.png", exif=exif_of(orientation))
        Image.fromarray(mask).save(tmp_path / f"masks/train/{name}.png")
    found = masks(tmp_path, "data.val=false")
    assert found.train is not None
    for index in range(4):
        pair = decode_pair(found.train.read(index))
        assert torch.equal(pair.image[0] // 200, pair.mask), found.train.locate(index)
    assert found.notes[-1].startswith("1 of the pictures that were looked at have an EXIF orientation")


def test_a_table_has_a_column_of_pictures_and_one_of_masks(small: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows: dict[str, list[Any]] = {"photo": [], "mask": []}
    for file in sorted((small / "images/train").iterdir()):
        rows["photo"].append({"bytes": file.read_bytes(), "path": None})
        rows["mask"].append({"bytes": (small / f"masks/train/{file.stem}.png").read_bytes(), "path": None})
    features = datasets.Features({"photo": datasets.Image(), "mask": datasets.Image()})
    table = datasets.Dataset.from_dict(rows, features=features)
    folder = tmp_path / "table"
    folder.mkdir()
    for split in ("train", "validation"):
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    found = opened("data=hub", f"data.name={folder}")
    assert found.train is not None
    assert len(found.train) == 6
    assert (
        decode_pair(found.train.read(1)).mask.tolist()
        == np.array(Image.open(small / "masks/train/p1.png")).tolist()
    )
    assert found.train.name(1) == "000001"


def spoil(root: Path, how: str) -> list[str]:
    """Make a data set wrong in one way; the keys to open it with."""
    first, mask = root / "images/train/p0.jpg", root / "masks/train/p0.png"
    labels = np.array(Image.open(mask))
    match how:
        case "out of range":
            labels[3, 4] = 7
            Image.fromarray(labels).save(mask)
            (root / "classes.txt").write_text("a\nb\nc\n")
        case "off by one":
            for file in (root / "masks").rglob("*.png"):
                Image.fromarray(np.array(Image.open(file)) + 1).save(file)
            (root / "classes.txt").write_text("a\nb\nc\n")
        case "unknown colours":
            Image.fromarray(np.stack([labels, labels * 2, labels], axis=2)).save(mask)
            (root / "classes.txt").write_text("a,#000000\nb,#010201\n")
        case "other size":
            Image.fromarray(labels[:-1]).save(mask)
        case "no partner":
            mask.unlink()
        case "empty":
            for file in (root / "images/train").iterdir():
                file.unlink()
        case "16 bits":
            Image.fromarray(labels.astype(np.uint16)).save(mask)
        case "JPEG":
            Image.fromarray(labels).save(mask.with_suffix(".jpg"))
            mask.unlink()
        case "two of a name":
            shutil.copy(first, first.with_suffix(".jpeg"))
        case "black and white":
            for file in (root / "masks").rglob("*.png"):
                Image.fromarray((np.array(Image.open(file)) > 0).astype(np.uint8) * 255).save(file)
        case "damaged":
            mask.write_bytes(mask.read_bytes()[:60])
        case "no val":
            shutil.rmtree(root / "images/val")
    return []


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("out of range", r"p0\.png: the mask has the values 7, and the 3 classes are 0\.\.2"),
        ("off by one", r"data\.reduce_zero_label=true would ignore 0 and make 1\.\.3 the classes"),
        ("unknown colours", r"colours that no class has: #020402"),
        ("other size", r"p0\.png: the mask has 39x50 pixels \(height x width\), its picture .*p0\.jpg 40x50"),
        ("no partner", r"1 picture of .*images/train without a mask in .*: p0\.jpg"),
        ("empty", r"images/train holds no image files"),
        ("16 bits", r"p0\.png.*more than eight bits"),
        ("JPEG", r"p0\.jpg.*stored as JPEG, which changes values"),
        ("two of a name", r"p0\.jpeg and p0\.jpg are both called p0: rename one|p0\.jpg and p0\.jpeg"),
        ("black and white", r"data\.values=\[0,255\]"),
        ("damaged", r"p0\.png: the mask cannot be decoded"),
        ("no val", r"data\.val_share=0\.2 holds out a fifth"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_remedy(small: Path, how: str, said: str) -> None:
    keys = spoil(small, how)
    with pytest.raises(DataError, match=said):
        masks(small, *keys)


def relabel(root: Path, change: Any) -> None:
    """All masks of a data set with other values."""
    for file in (root / "masks").rglob("*.png"):
        Image.fromarray(change(np.array(Image.open(file))).astype(np.uint8)).save(file)


def test_values_with_gaps_are_not_taken_for_classes(small: Path) -> None:
    relabel(small, lambda labels: labels * 64)
    with pytest.raises(DataError, match=r"0, 64, 128 with gaps .*128 is in .*p0\.png.*data\.values="):
        masks(small)
    assert masks(small, "data.values=[0,64,128]").classes == ("0", "1", "2")


def test_masks_that_begin_at_1_are_told(small: Path) -> None:
    relabel(small, lambda labels: labels + 1)
    found = masks(small)
    assert found.classes == ("0", "1", "2", "3")
    assert "data.reduce_zero_label=true would make 1..3 the classes" in found.notes[0]
    assert masks(small, "data.reduce_zero_label=true").classes == ("0", "1", "2")


def test_pictures_of_val_that_are_not_read_are_told(small: Path) -> None:
    assert "those of val are not read" in masks(small, "data.val_share=0.4").notes[0]


def test_a_class_that_never_comes_is_told(small: Path) -> None:
    (small / "classes.txt").write_text("sky\nland\nsea\nmoon\n")
    assert "1 of the 4 classes never come in training: moon" in masks(small).notes


def test_masks_without_any_label_are_refused(small: Path) -> None:
    (small / "classes.txt").write_text("sky\nland\nsea\n")
    relabel(small, lambda labels: labels * 0 + 255)
    with pytest.raises(DataError, match=r"none of the 6 training masks .* has a pixel with a label"):
        masks(small)
    found = KIT.check_data(compose_train(["recipe=masks", f"data.root={small}"]).config.data)
    assert found.faults == [
        "none of the masks has a pixel with a label: data.ignore= and data.values= say what values mean"
    ]


def test_a_check_goes_on_after_a_mask_that_cannot_be_read(small: Path) -> None:
    (small / "masks/train/p0.png").write_bytes(b"\x89PNG")
    (small / "masks/train/p4.png").write_bytes(b"")
    found = KIT.check_data(compose_train(["recipe=masks", f"data.root={small}"]).config.data)
    assert [fault.partition(" (")[0] for fault in found.faults] == ["2 of 6 masks of train cannot be used"]


def test_masks_can_be_left_unopened(small: Path) -> None:
    (small / "classes.txt").write_text("sky\nland\nsea\n")
    (small / "masks/train/p0.png").write_bytes(b"no mask")
    data = compose_train(["recipe=masks", f"data.root={small}"]).config.data
    assert KIT.check_data(data).faults
    found = KIT.check_data(data, open_files=False)
    assert not found.faults
    assert found.lines[1:] == ["train: 6 masks", "val: 3 masks"]


def test_an_evaluation_needs_nothing_but_held_out_pictures(small: Path) -> None:
    for number in range(3):  # nor all the classes of its checkpoint
        file = small / f"masks/val/p{number}.png"
        Image.fromarray(np.minimum(np.array(Image.open(file)), 1)).save(file)
    shutil.rmtree(small / "images/train")
    shutil.rmtree(small / "masks/train")
    found = masks(small, training=False, classes=("0", "1", "2"))
    assert found.classes == ("0", "1", "2")
    assert found.val is not None
    assert len(found.val) == 3
    (small / "classes.txt").write_text("sky\nland\nsea\n")
    found = masks(small, training=False, classes=("0", "1", "2"))
    assert found.classes == ("sky", "land", "sea")
    assert "the checkpoint's classes have no names: they are taken to be sky, land, sea" in found.notes


def test_nothing_is_saved_over_the_data_or_over_files_of_others(small: Path, tmp_path: Path) -> None:
    source = masks(small).val
    assert source is not None

    def gallery(folder: Path) -> Gallery:
        return Gallery(source, ("a", "b", "c"), ["masks"], 0, folder)

    for folder in (small, small / "masks/val", small / "images/val/p"):
        with pytest.raises(ConfigError, match="where the data are: choose another"):
            gallery(folder).check_folder()
    gallery(tmp_path / "new").check_folder()
    labels = torch.zeros(40, 50, dtype=torch.uint8)
    mine = gallery(tmp_path / "new")
    mine(0, labels, labels, torch.zeros(4, 3, dtype=torch.int64))
    gallery(tmp_path / "new").check_folder()  # an evaluation may be repeated
    shutil.copy(small / "masks/val/p1.png", tmp_path / "new/masks/p1.png")
    with pytest.raises(ConfigError, match=r"p1\.png is none that this program wrote"):
        gallery(tmp_path / "new").check_folder()


def test_black_and_white_masks_are_two_classes_when_told_so(small: Path) -> None:
    spoil(small, "black and white")
    found = masks(small, "data.values=[0,255]")
    assert found.classes == ("0", "1")
    assert found.looked_at.ignored == 0


def test_a_run_that_cannot_begin_writes_nothing(small: Path, tmp_path: Path) -> None:
    spoil(small, "out of range")
    folder = tmp_path / "run"
    done = run(
        "hornet-train", "recipe=masks", f"data.root={small}", f"run_dir={folder}", "data.image_size=32"
    )
    assert done.returncode == 2
    assert "p0.png" in done.stderr
    assert "Traceback" not in done.stderr
    assert not folder.exists()


def test_the_whole_check_names_every_fault_and_counts_the_pixels(small: Path) -> None:
    (small / "classes.txt").write_text("sky\nland\nsea\nmoon\n")
    labels = np.array(Image.open(small / "masks/train/p1.png"))
    Image.fromarray(labels[:, :-1]).save(small / "masks/train/p1.png")
    Image.fromarray(labels + 3).save(small / "masks/val/p2.png")
    found = KIT.check_data(compose_train(["recipe=masks", f"data.root={small}"]).config.data)
    text = "\n".join(found.lines)
    assert "p1.png: the mask has 40x49 pixels" in text
    assert "p2.png" in text
    assert "pixels by class: " in text
    assert [fault.partition(" cannot")[0] for fault in found.faults] == [
        "1 of 6 masks of train",
        "1 of 3 masks of val",
    ]
    assert found.warnings == ["1 of the 4 classes never come: moon"]


def test_classes_of_a_checkpoint_are_matched_by_name(small: Path) -> None:
    (small / "classes.txt").write_text("sky\nland\nsea\n")
    plain = masks(small, training=False)
    moved = masks(small, training=False, classes=("sea", "sky", "land"))
    assert plain.val is not None
    assert moved.val is not None
    there = decode_pair(plain.val.read(0)).mask.long()
    expected = torch.tensor([1, 2, 0])[there]
    assert torch.equal(decode_pair(moved.val.read(0)).mask.long(), expected)
    with pytest.raises(DataError, match="only the data have sea, only the checkpoint moon"):
        masks(small, training=False, classes=("moon", "sky", "land"))


def test_weights_of_classes_balance_their_pixels(tmp_path: Path) -> None:
    labels = np.zeros((40, 40), dtype=np.uint8)
    labels[:10] = 1
    labels[10:12] = 2
    for split in ("train", "val"):
        write(tmp_path, split, "p", labels)
    config = compose_train(["recipe=masks", f"data.root={tmp_path}", "task.class_weights=auto"]).config
    shares = np.array([28, 10, 2]) / 40
    np.testing.assert_allclose(class_weights(config, KIT.open_data(config.data)), 0.25 / shares)
    (tmp_path / "classes.txt").write_text("sky\nland\nsea\n")
    of_a_checkpoint = KIT.open_data(config.data, classes=("sea", "sky", "land"))
    np.testing.assert_allclose(class_weights(config, of_a_checkpoint), 0.25 / shares[[2, 0, 1]])
    config = compose_train(["recipe=masks", f"data.root={tmp_path}", "task.class_weights=[1,2.0]"]).config
    with pytest.raises(ConfigError, match="2 values, and the data 3 classes"):
        class_weights(config, of_a_checkpoint)


def test_a_crop_larger_than_any_picture_is_refused(small: Path) -> None:
    config = compose_train(["recipe=masks", f"data.root={small}", "data.image_size=128"]).config
    with pytest.raises(
        ConfigError, match=r"data\.image_size=128 is larger than any picture: .* 60x75 pixels"
    ):
        check_crop(config, masks(small).looked_at)
    config = compose_train(["recipe=masks", f"data.root={small}", "data.image_size=64"]).config
    check_crop(config, masks(small).looked_at)


def test_a_picture_smaller_than_the_model_takes_is_named(small: Path) -> None:
    found = masks(small)
    assert found.val is not None
    with pytest.raises(
        SampleError, match=r"p0\.jpg: 40x50 pixels, 20x25 when resized: .* 32 a side at least"
    ):
        EvalSamples(EvalTransform(ratios=(0.5,))).decode(found.val.read(0))


def test_shapes_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    first, second = (write_shapes(tmp_path / name, train=3, val=1) for name in ("one", "two"))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) == 8 + 3
    for file in files:
        assert (first / file).read_bytes() == (second / file).read_bytes()
    data = io.BytesIO((first / "annotations/training/shapes_train_000000.png").read_bytes())
    assert set(np.unique(np.array(Image.open(data)))) <= set(range(8))
