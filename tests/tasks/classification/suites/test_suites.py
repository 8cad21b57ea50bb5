"""The layouts of the evaluation sets, on small copies."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from labelled import labelled
from PIL import Image

from hornet_train.errors import DataError
from hornet_train.tasks.classification.evaluation_sets import EvaluationSet
from hornet_train.tasks.classification.sources import imagenet_wnids
from hornet_train.tasks.classification.suites import (
    corruption_errors,
    find_set,
    find_suite,
    open_set,
    usual_places,
)
from hornet_train.tasks.classification.suites import corruptions as c
from hornet_train.tasks.classification.suites.metadata import published_real_labels, rows_of, subset_wnids
from hornet_train.tasks.classification.suites.real import RealSource

WNIDS = imagenet_wnids()


def _class_folders(root: Path, names: list[str] | tuple[str, ...]) -> None:
    """One image a class, of the class's number in red and green."""
    for label, name in enumerate(names):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (2, 2), (label // 32, 3 * (label % 32), 0)).save(root / name / "x.png")


def test_each_set_has_usual_places() -> None:
    assert get_args(EvaluationSet) == tuple(find_suite._PLACES)


def test_v2_is_labelled_by_the_number_of_its_folders(tmp_path: Path) -> None:
    _class_folders(tmp_path / "v2", [str(label) for label in range(1000)])
    suite = open_set("imagenet_v2", tmp_path / "v2")
    source = suite.parts[""]
    assert suite.classes == WNIDS
    assert suite.rows is None
    for label in (2, 10, 999):
        image, content = labelled(source, label)
        assert content == label
        assert 32 * int(image[0, 0, 0]) + int(image[1, 0, 0]) // 3 == label
    (tmp_path / "v2/17/x.png").unlink()
    (tmp_path / "v2/17").rmdir()
    (tmp_path / "v2/1000").mkdir()
    with pytest.raises(DataError, match=r"1 missing \(17\); 1 unexpected \(1000\)"):
        open_set("imagenet_v2", tmp_path / "v2")


@pytest.mark.parametrize("name", ["imagenet_a", "imagenet_r"])
def test_200_classes_among_the_1000(tmp_path: Path, name: EvaluationSet) -> None:
    some = subset_wnids(name)
    _class_folders(tmp_path / "set", some)
    (tmp_path / "set/README.txt").write_text("as the archives have it")
    suite = open_set(name, tmp_path / "set")
    assert len(suite.classes) == 200
    assert suite.rows is not None
    assert [WNIDS[row] for row in suite.rows] == list(suite.classes)
    listed = resources.files("timm.data").joinpath("_info", f"{name}_indices.txt").read_text().split()
    assert suite.rows.tolist() == [int(row) for row in listed], "timm's own numbers of the rows"
    with pytest.raises(DataError, match="of ImageNet-Sketch: 800 missing"):
        open_set("imagenet_sketch", tmp_path / "set")


def test_rows_of_a_few() -> None:
    assert torch.equal(rows_of([WNIDS[7], WNIDS[3]]), torch.tensor([7, 3]))


def _val(folder: Path, count: int, *, nested: bool = False) -> Path:
    for i in range(1, count + 1):
        at = folder / f"n{i % 2}" if nested else folder
        at.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (2, 2), (20 * i, 0, 0)).save(at / f"ILSVRC2012_val_{i:08d}.JPEG", quality=100)
    return folder


@pytest.mark.parametrize("nested", [False, True])
def test_real_pairs_images_with_lists_by_their_numbers(tmp_path: Path, nested: bool) -> None:
    _val(tmp_path / "val", 5, nested=nested)
    (tmp_path / "real.json").write_text(json.dumps([[4], [], [1, 999, 1], [], [0, 2]]))
    suite = open_set("imagenet_real", tmp_path, tmp_path / "real.json")  # the folder that holds val/
    source = suite.parts[""]
    assert (len(source), suite.left_out, suite.rows) == (3, 2, None)
    assert suite.notes == ("2 images without a label are left out",)
    content = {round(int(labelled(source, i)[0][0, 0, 0]) / 20): labelled(source, i)[1] for i in range(3)}
    assert {number: torch.as_tensor(label).tolist() for number, label in content.items()} == {
        1: [4, -1, -1],
        3: [1, 999, -1],
        5: [0, 2, -1],
    }
    assert source.fingerprint == RealSource(tmp_path / "val", tmp_path / "real.json").fingerprint


@pytest.mark.parametrize(
    ("labels", "content"),
    [
        ("[[1],[2],[3],[4]]", r"2 missing \(ILSVRC2012_val_00000003, ILSVRC2012_val_00000004\)"),
        ("[[1]]", r"1 without an entry in the labels \(ILSVRC2012_val_00000002\)"),
        ("[[1],[1000]]", r"labels that are not 0\.\.999, of ILSVRC2012_val_00000002"),
        ("[[1],[true]]", r"labels that are not 0\.\.999"),
        ("[1,2]", "is not a list of label lists"),
        ("[[1],", "is not JSON"),
        ("[[],[]]", "no image has a label"),
    ],
)
def test_real_labels_that_do_not_fit(tmp_path: Path, labels: str, content: str) -> None:
    (tmp_path / "real.json").write_text(labels)
    with pytest.raises(DataError, match=content):
        RealSource(_val(tmp_path / "val", 2), tmp_path / "real.json")


def test_the_published_real_labels() -> None:
    lists = published_real_labels()
    assert len(lists) == 50_000
    assert sum(not given for given in lists) == 3_163
    assert lists[:3] == [[], [970, 795], [230, 231]]


def test_corruptions_are_found_and_must_be_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = WNIDS[:3]
    monkeypatch.setattr(c, "imagenet_wnids", lambda: few)
    for corruption in [*c.ALEXNET, "saturate"]:
        kind = tmp_path / "noise" if corruption == "shot_noise" else tmp_path  # one by kind, the others not
        for severity in c.SEVERITIES:
            _class_folders(kind / corruption / severity, few)
    suite = open_set("imagenet_c", tmp_path)
    assert list(suite.parts) == [f"{name}/{s}" for name in [*c.ALEXNET, "saturate"] for s in "12345"]
    assert [labelled(suite.parts["shot_noise/5"], i)[1] for i in range(3)] == [0, 1, 2]
    (tmp_path / "fog/2" / few[1] / "x.png").unlink()
    (tmp_path / "fog/2" / few[1]).rmdir()
    with pytest.raises(DataError, match=rf"fog/2: not the 3 class folders .* 1 missing \({few[1]}\)"):
        open_set("imagenet_c", tmp_path)
    with pytest.raises(DataError, match="none of ImageNet-C's corruptions"):
        open_set("imagenet_c", tmp_path / "noise/shot_noise")


def test_mce_is_the_mean_of_errors_by_alexnets() -> None:
    rng = np.random.default_rng(0)
    names = [*c.ALEXNET, *c.EXTRA]
    top1 = {f"{name}/{severity}": float(rng.uniform(20, 90)) for name in names for severity in "12345"}
    content = corruption_errors(top1)
    errors = 1 - np.array([[top1[f"{name}/{s}"] for s in "12345"] for name in c.ALEXNET]) / 100
    by = np.array([0.886428, 0.894468, 0.922640, 0.819880, 0.826268, 0.785948, 0.798360, 0.866816])
    by = np.append(by, [0.826572, 0.819324, 0.564592, 0.853204, 0.646056, 0.717840, 0.606500])
    assert content["mce"] == pytest.approx(100 * np.mean(errors.sum(1) / (5 * by)))
    assert content["corruptions"]["fog"]["error"] == pytest.approx(100 * errors[9].mean())
    assert content["corruptions"]["spatter"]["ce"] is None
    alexnet = {f"{name}/{s}": 100 - 100 * c.ALEXNET[name] for name in c.ALEXNET for s in "12345"}
    assert corruption_errors(alexnet)["mce"] == pytest.approx(100), "AlexNet's own mCE is 100 by definition"
    without = {part: value for part, value in top1.items() if not part.startswith("fog/")}
    assert (corruption_errors(without)["mce"], corruption_errors(without)["missing"]) == (None, ["fog"])


def test_sets_are_found_by_their_usual_names(tmp_path: Path) -> None:
    assert find_set(tmp_path, "imagenet_v2_top") is None
    for name in get_args(EvaluationSet):
        for place in usual_places(name):
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
            assert find_set(tmp_path, name) is not None
    assert find_set(tmp_path, "imagenet_v2_threshold") == tmp_path / "imagenetv2-threshold0.7-format-val"
