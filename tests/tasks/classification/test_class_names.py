"""Checkpoints and data agree on classes by their names: in evaluations, fine-tuning and on the way on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import datasets
import pytest
import timm
import torch
from prepare_trees import photographs

import hornet_train
from hornet_train.errors import DataError
from hornet_train.tasks.classification.head import start_classifier
from hornet_train.tasks.kit_types import Weights

QUICK = [
    *("model=hornet_pico_7x7", "data.image_size=32", "data.workers=0", "batch_size=5", "epochs=2"),
    *("optim.lr=1e-3", "schedule.warmup=1it", "augment=none", "dist.threads=1"),
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("base") / "photos")


@pytest.fixture(scope="module")
def run(photos: Path) -> Path:
    given = [*QUICK, "data=folder", f"data.root={photos}", f"run_dir={photos.parent}/run"]
    return hornet_train.train(given, quiet=True).run_dir


def val_of(photos: Path, root: Path, **names: str) -> Path:
    """A data set with some of the val folders: name here -> name there."""
    for new, old in names.items():
        shutil.copytree(photos / "val" / old, root / "val" / new)
    return root


def test_a_part_of_the_classes_is_evaluated_by_name(run: Path, photos: Path, tmp_path: Path) -> None:
    root = val_of(photos, tmp_path / "part", chelsea="chelsea", coffee="coffee")
    (root / "val" / "astronaut").mkdir()  # an empty folder is as none
    result = hornet_train.evaluate([f"checkpoint={run}", f"data.root={root}", f"out={tmp_path}/e.json"])
    model = hornet_train.load(run)
    files = sorted((root / "val").glob("*/*"))
    answers = model.predict(files)
    right = [answer["classes"][0] == file.parent.name for answer, file in zip(answers, files, strict=True)]
    assert result.values["count"] == len(files) == 10
    assert result.values["top1"] == pytest.approx(100 * sum(right) / len(right))
    assert result.values["absent_classes"] == 1


def test_unknown_classes_are_refused_unless_a_map_names_them(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = val_of(photos, tmp_path / "extra", Chelsea="chelsea", coffee="coffee", dog="astronaut")
    given = [f"checkpoint={run}", f"data.root={root}", f"out={tmp_path}/e.json"]
    with pytest.raises(
        DataError, match=r"2 of the 3 classes .*'Chelsea' \('chelsea'\?\), 'dog'; .*class_map"
    ):
        hornet_train.evaluate(given)
    (tmp_path / "map.csv").write_text("Chelsea,chelsea\ndog,astronaut\nbird,coffee\n")
    mapped = hornet_train.evaluate([*given, f"data.class_map={tmp_path}/map.csv"])
    assert "data.class_map renames 1 classes that are not here (bird)" in capsys.readouterr().out
    plain = hornet_train.evaluate([f"checkpoint={run}", f"out={tmp_path}/f.json"])
    for key in ("top1", "loss", "count"):
        assert mapped.values[key] == pytest.approx(plain.values[key])


def test_a_training_needs_no_held_out_image_of_each_class(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = val_of(photos, tmp_path / "photos", coffee="coffee")
    (root / "val" / "chelsea").mkdir()
    shutil.copytree(photos / "train", root / "train")
    trained = hornet_train.train([*QUICK, "data=folder", f"data.root={root}", f"run_dir={tmp_path}/run"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "2 of the 3 classes have no held-out image (astronaut, chelsea)" in shown
    assert trained.metrics["model"]["count"] == 5
    model = hornet_train.load(tmp_path / "run", ["weights=model"])
    newest = hornet_train.load(tmp_path / "run/checkpoints/step_00000006", ["weights=model"])
    right = [one["classes"][0] == "coffee" for one in newest.predict(sorted((root / "val/coffee").glob("*")))]
    assert trained.metrics["model"]["top1"] == pytest.approx(20.0 * sum(right))
    assert model.classes == ("astronaut", "chelsea", "coffee")
    shutil.copytree(photos / "val" / "astronaut", root / "val" / "Astronaut")
    with pytest.raises(DataError, match=r"1 of the 2 classes of val .*'Astronaut' \('astronaut'\?\)"):
        hornet_train.train([*QUICK, "data=folder", f"data.root={root}", f"run_dir={tmp_path}/other"])


def test_classes_can_be_merged_by_a_map(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "map.csv").write_text("astronaut,thing\ncoffee,thing\n")
    given = [*QUICK, "data=folder", f"data.root={photos}", f"data.class_map={tmp_path}/map.csv"]
    trained = hornet_train.train([*given, f"run_dir={tmp_path}/run"], quiet=True)
    assert hornet_train.load(trained.run_dir).classes == ("chelsea", "thing")
    result = hornet_train.evaluate([f"checkpoint={trained.run_dir}", "weights=model"], quiet=True)
    assert result.values["count"] == 15


def table(folder: Path, names: list[str], photos: Path, split: str) -> None:
    """Parquet whose ClassLabel has the names in this order."""
    files = sorted((photos / split).glob("*/*"))
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    rows = {
        "image": [{"bytes": file.read_bytes(), "path": file.name} for file in files],
        "label": [file.parent.name for file in files],
    }
    folder.mkdir(parents=True, exist_ok=True)
    kept = datasets.Dataset.from_dict(rows, features=features)
    kept.to_parquet(folder / f"{'validation' if split == 'val' else split}-00000-of-00001.parquet")


@pytest.mark.parametrize("streaming", [False, True])
def test_columns_of_names_in_another_order(streaming: bool, run: Path, photos: Path, tmp_path: Path) -> None:
    """Held out beside the training images, and under another checkpoint."""
    table(tmp_path / "hub", ["coffee", "astronaut", "chelsea"], photos, "train")
    table(tmp_path / "hub", ["chelsea", "coffee", "astronaut"], photos, "val")
    more = ["data=hub", f"data.name={tmp_path}/hub", f"data.streaming={str(streaming).lower()}"]
    trained = hornet_train.train([*QUICK, *more, f"run_dir={tmp_path}/run"], quiet=True)
    model = hornet_train.load(tmp_path / "run/checkpoints/step_00000006", ["weights=model"])
    assert model.classes == ("coffee", "astronaut", "chelsea")
    files = sorted((photos / "val").glob("*/*"))
    right = [a["classes"][0] == f.parent.name for a, f in zip(model.predict(files), files, strict=True)]
    assert trained.metrics["model"]["top1"] == pytest.approx(100 * sum(right) / len(right))
    here = hornet_train.evaluate([f"checkpoint={run}", *more, f"out={tmp_path}/e.json"], quiet=True)
    there = hornet_train.evaluate([f"checkpoint={run}", f"out={tmp_path}/f.json"], quiet=True)
    assert here.values["top1"] == pytest.approx(there.values["top1"])
    assert here.values["loss"] == pytest.approx(there.values["loss"])


def test_a_run_goes_on_by_the_names_of_its_classes(photos: Path, tmp_path: Path) -> None:
    """Where a table now has them in another order; other classes are refused."""
    data = ["data=hub", f"data.name={tmp_path}/hub", f"run_dir={tmp_path}/run"]
    table(tmp_path / "hub", ["astronaut", "chelsea", "coffee"], photos, "train")
    table(tmp_path / "hub", ["astronaut", "chelsea", "coffee"], photos, "val")
    hornet_train.train([*QUICK, *data], quiet=True)
    table(tmp_path / "hub", ["coffee", "chelsea", "astronaut"], photos, "train")
    table(tmp_path / "hub", ["coffee", "chelsea", "astronaut"], photos, "val")
    hornet_train.train([*QUICK, *data, "epochs=3", "resume=force"], quiet=True)
    kept = json.loads((tmp_path / "run/checkpoints/step_00000009/data.json").read_text())["classes"]
    assert kept == ["astronaut", "chelsea", "coffee"]
    model = hornet_train.load(tmp_path / "run/checkpoints/step_00000009", ["weights=model"])
    files = sorted((photos / "train").glob("*/*"))
    right = [a["classes"][0] == f.parent.name for a, f in zip(model.predict(files), files, strict=True)]
    assert sum(right) / len(right) > 0.6  # it would have unlearnt the names of two classes
    given = ["data=folder", f"data.root={photos}", f"data.class_map={tmp_path}/map.csv", *data[2:]]
    (tmp_path / "map.csv").write_text("coffee,tea\n")
    with pytest.raises(DataError, match=r"other classes than the data group names now.*init_from="):
        hornet_train.train([*QUICK, *given, "epochs=4", "resume=force"], quiet=True)


@pytest.mark.parametrize(
    ("names", "classes", "rows", "said"),
    [
        (("a", "b", "c"), ("a", "b", "c"), [0, 1, 2], ""),
        (("a", "b", "c"), ("c", "a", "b"), [2, 0, 1], "in the order of the classes here, by their names"),
        (("a", "b", "c"), ("a", "b", "x"), None, "the head of 3 classes starts from its initialisation"),
        (("a", "b", "c"), ("0", "1", "2"), [0, 1, 2], "rows are kept in their order"),
        (("0", "1", "2"), ("1", "2", "3"), None, "starts from its initialisation; the file's has 3 other"),
        (("a", "b", "c"), ("a", "b"), None, "starts from its initialisation; the file's has 3 classes"),
        ((), ("a", "b", "c"), [0, 1, 2], ""),
    ],
)
def test_rows_of_a_head_go_along_with_their_names(
    names: tuple[str, ...], classes: tuple[str, ...], rows: list[int] | None, said: str
) -> None:
    theirs = timm.create_model("hornet_pico_7x7", num_classes=3).state_dict()
    model = timm.create_model("hornet_pico_7x7", num_classes=len(classes))
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    weights = Weights(theirs, Path("file.pth"), "model", None, names, [])
    notes = start_classifier(model, weights, None, classes)
    assert (said in " ".join(notes)) if said else not notes
    for name, value in model.state_dict().items():
        if name.startswith("head."):
            assert torch.equal(value, fresh[name] if rows is None else theirs[name][rows])
        else:
            assert torch.equal(value, theirs[name])
