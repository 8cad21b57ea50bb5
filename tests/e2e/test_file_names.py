"""A data set and a run under names that are not UTF-8, from the check to the evaluation."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from helpers import events, run
from PIL import Image
from prepare_trees import PICTURES, photographs

import hornet_train
from hornet_train.config.stored import read_config
from hornet_train.errors import DataError
from hornet_train.tasks.classification.sources import FolderSource, HubSource, open_shards

Command = Callable[..., tuple[int, str, str]]
CLASSES = ("Café", r"Gr\xfcn", "astronaut")
DAMAGED = r"train/Gr\xfcn/Gr\xf6b.jpg"
QUICK = [
    *("model=hornet_pico_7x7", "data=folder", "data.image_size=32", "data.workers=0", "batch_size=5"),
    *("epochs=1it", "optim.lr=1e-3", "schedule.warmup=1it", "augment=none", "dist.threads=1"),
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`.../d<e4>ta/{train,val}/{astronaut,Caf<c3><a9>,Gr<fc>n}`; a picture in train is damaged."""
    root = photographs(tmp_path_factory.mktemp("base") / os.fsdecode(b"d\xe4ta"))
    for split in ("train", "val"):
        (root / split / "coffee").rename(root / split / "Café")
        (root / split / "chelsea").rename(root / split / os.fsdecode(b"Gr\xfcn"))
    (root / os.fsdecode(b"train/Gr\xfcn/Gr\xf6b.jpg")).write_bytes(b"\xff\xd8 damaged")
    return root


@pytest.fixture(scope="module")
def trained(photos: Path) -> Path:
    folder = photos.parent / os.fsdecode(b"r\xfcn")
    hornet_train.train([*QUICK, f"data.root={photos}", f"run_dir={folder}", "epochs=2"], quiet=True)
    return folder


def test_a_run_and_its_evaluation(trained: Path, photos: Path) -> None:
    bad = events(trained, "bad_sample")
    assert [event["path"].partition(r"d\xe4ta/")[2] for event in bad] == [DAMAGED]
    kept = next((trained / "checkpoints").glob("*/data.json")).read_text(encoding="utf-8")
    assert tuple(json.loads(kept)["classes"]) == CLASSES
    assert read_config(trained / "config.yaml")["data"]["root"] == str(photos)
    assert Image.open(trained / "curves.png").size[0] > 1000
    for name in ("environment.json", "metrics.jsonl", "config.yaml"):
        (trained / name).read_text(encoding="utf-8").encode()
    result = hornet_train.evaluate([f"checkpoint={trained}"], quiet=True)
    assert result.values["count"] == 5 * len(PICTURES)  # by the root in the run's own config
    assert r"r\xfcn" in json.loads((trained / "eval.json").read_text(encoding="utf-8"))["checkpoint"]
    assert hornet_train.load(trained).classes == CLASSES
    more = hornet_train.train([f"run_dir={trained}", "epochs=3"], quiet=True)
    assert more.step == 9


def test_check_and_pack_take_what_training_takes(
    photos: Path, trained: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    listed = tmp_path / "damaged.csv"
    code, out, _ = command("hornet-data", "check", str(photos), "--workers=1", f"--csv={listed}")
    assert code == 0
    assert "usable: training replaces the 1 damaged" in out
    with listed.open(encoding="utf-8", newline="") as file:
        assert [row["path"].partition(r"d\xe4ta/")[2] for row in csv.DictReader(file)] == [DAMAGED]
    plain = hornet_train.evaluate([f"checkpoint={trained}", f"out={tmp_path}/e.json"], quiet=True)
    for kind in ("parquet", "webdataset"):
        shards = tmp_path / os.fsdecode(b"p\xe4" + kind.encode())
        flags = ("--format", kind, "--workers=1", "--shards=1")
        code, _, err = command("hornet-data", "pack", str(photos), str(shards), *flags, "--on-bad=skip")
        assert code == 0, err
        assert DAMAGED in (shards / "train.skipped.csv").read_text(encoding="utf-8")
        assert command("hornet-data", "pack", str(photos), str(shards), *flags, "--split=val")[0] == 0
        sources = (
            [open_shards, HubSource] if kind == "parquet" else [open_shards]
        )  # of one suffix: `datasets`
        assert [read(str(shards), "train").classes for read in sources] == [CLASSES] * len(sources)
        given = ["data=hub", f"data.name={shards}", "data.streaming=true", "data.workers=1"]
        out = f"out={tmp_path}/{kind}.json"
        packed = hornet_train.evaluate([f"checkpoint={trained}", *given, out], quiet=True)
        assert packed.values["loss"] == pytest.approx(plain.values["loss"])


def test_show_and_two_folders_of_one_name(photos: Path, tmp_path: Path, command: Command) -> None:
    sheet = tmp_path / os.fsdecode(b"sh\xe4.png")
    code, out, _ = command("hornet-data", "show", *QUICK, f"data.root={photos}", f"--out={sheet}")
    assert (code, sheet.is_file()) == (0, True)
    assert r"sh\xe4.png" in out
    for name in (b"Gr\xfcn", rb"Gr\xfcn"):
        (tmp_path / "train" / os.fsdecode(name)).mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(tmp_path / "train" / os.fsdecode(name) / "a.png")
    with pytest.raises(DataError, match=r"two folders are both Gr\\xfcn, .*; rename one"):
        FolderSource(tmp_path, "train")


@pytest.mark.long
def test_a_locale_that_is_not_utf8(photos: Path, trained: Path, tmp_path: Path) -> None:
    """Names mean the same there: the classes of a run here are those of one there."""
    plain = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    folder = tmp_path / "ré"
    given = [f"data.root={photos}", f"init_from={trained}", f"run_dir={folder}", "epochs=1"]
    done = run("hornet-train", *QUICK, *given, env=plain)
    assert (done.returncode, "warning: bad_sample" in done.stderr) == (0, True), done.stderr
    assert "ré/metrics.jsonl" in done.stdout
    assert "head of 3 classes" not in done.stdout  # goes along with its names
    assert DAMAGED in events(folder, "bad_sample")[0]["path"]
    assert hornet_train.load(folder).classes == CLASSES
