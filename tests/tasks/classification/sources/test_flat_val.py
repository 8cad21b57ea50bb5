"""ImageNet's flat val folder under each kind of labels file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from labelled import labelled
from PIL import Image

from hornet_train.errors import DataError
from hornet_train.tasks.classification.sources import FlatSource, imagenet_wnids

WNIDS = imagenet_wnids()
LABELS = [65, 970, 0, 999, 65]  # of image 1, 2, ...


@pytest.fixture(scope="module")
def val(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("imagenet") / "val"
    folder.mkdir()
    for i in range(1, 6):
        Image.new("RGB", (4, 3), (40 * i, 0, 0)).save(folder / f"ILSVRC2012_val_{i:08d}.JPEG", quality=100)
    (folder / "._ILSVRC2012_val_00000001.JPEG").write_bytes(b"what macOS leaves")
    (folder / "readme.txt").write_text("not an image")
    return folder


def _names(suffix: str) -> list[str]:
    return [f"ILSVRC2012_val_{i:08d}{suffix}" for i in range(1, 6)]


def _caffe(at: Path) -> Path:
    at.write_text(
        "".join(f"{n} {label}\n" for n, label in zip(_names(".JPEG"), LABELS, strict=True)), encoding="utf-8"
    )
    return at


def _wnids(at: Path) -> Path:
    rows = [f"{n}, {WNIDS[label]}\r\n" for n, label in zip(_names(""), LABELS, strict=True)]
    at.write_text("\n" + "".join(rows[::-1]), encoding="utf-8")
    return at


def _kaggle(at: Path) -> Path:
    rows = [
        f"{n},{WNIDS[label]} 85 1 499 272 {WNIDS[label]} 3 4 5 6 \n"
        for n, label in zip(_names(""), LABELS, strict=True)
    ]
    at.write_text("﻿ImageId,PredictionString\n" + "".join(rows), encoding="utf-8")
    return at


def _devkit(at: Path) -> Path:
    """Ids in an order of their own, and inner nodes after the leaves, as in the development kit."""
    order = np.random.default_rng(0).permutation(1000)
    kind = np.dtype([("ILSVRC2012_ID", object), ("WNID", object), ("num_children", object)])
    synsets = np.zeros((1060, 1), dtype=kind)
    for row in range(1060):
        wnid = WNIDS[order[row]] if row < 1000 else f"n9{row:07d}"
        synsets[row, 0] = (row + 1, wnid, 0 if row < 1000 else 3)
    scipy.io.savemat(at.parent / "meta.mat", {"synsets": synsets})
    ids = np.argsort(order)[LABELS] + 1
    at.write_text("".join(f"{number}\n" for number in ids), encoding="utf-8")
    return at


@pytest.mark.parametrize("write", [_caffe, _wnids, _kaggle, _devkit])
def test_every_form_gives_the_same_labels(val: Path, tmp_path: Path, write: Callable[[Path], Path]) -> None:
    source = FlatSource(val, write(tmp_path / "labels.txt"), WNIDS)
    assert [labelled(source, i)[1] for i in range(len(source))] == LABELS
    assert [int(labelled(source, i)[0][0, 0, 0]) // 39 for i in range(5)] == [1, 2, 3, 4, 5]
    assert source.locate(1) == str(val / "ILSVRC2012_val_00000002.JPEG")
    assert source.classes == tuple(WNIDS)
    other = tmp_path / "other.txt"
    other.write_text(_caffe(tmp_path / "caffe.txt").read_text().replace(" 999", " 998"))
    assert FlatSource(val, tmp_path / "caffe.txt", WNIDS).fingerprint == source.fingerprint
    assert FlatSource(val, other, WNIDS).fingerprint != source.fingerprint


def _reported(val: Path, labels: Path, text: str | None = None) -> str:
    if text is not None:
        labels.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        FlatSource(val, labels, WNIDS)
    assert len(str(caught.value)) < 900
    return str(caught.value)


def test_faults_are_reported_at_once(val: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    missing = "".join(f"ILSVRC2012_val_{i:08d} 1\n" for i in range(2, 40))
    message = _reported(val, file, missing)
    assert "has 5 images, data.val_labels=" in message
    assert "38 labels: 34 images of the labels file are missing (ILSVRC2012_val_00000006, " in message
    assert "1 images have no label (ILSVRC2012_val_00000001)" in message
    message = _reported(val, file, "a.JPEG 1000\na.JPEG 5\nb.JPEG n00000000\nc d e\na.JPEG 6\nlonely\n")
    assert "2 lines are not `name label` (line 4: 'c d e', line 6: 'lonely')" in message
    assert "2 labels are neither a wnid of ImageNet-1K nor a number 0..999" in message
    assert "(line 1: '1000', line 3: 'n00000000')" in message
    assert "1 images are named again (line 5: a)" in message


def test_a_name_that_is_not_utf_8_has_its_label_by_what_is_shown(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / os.fsdecode(b"Gr\xf6b.JPEG")).write_bytes(b"")
    (tmp_path / "labels.txt").write_text("Gr\\xf6b.JPEG 7\n", encoding="utf-8")
    assert FlatSource(tmp_path / "val", tmp_path / "labels.txt", WNIDS).read(0)["label"] == 7


def test_files_that_cannot_be_used(val: Path, tmp_path: Path) -> None:
    file = tmp_path / "labels.txt"
    assert "cannot be read (No such file or directory)" in _reported(val, file)
    assert "is empty" in _reported(val, file, " \n")
    assert f"{tmp_path}/meta.mat does not exist" in _reported(val, file, "490\n361\n")
    (tmp_path / "meta.mat").write_bytes(b"no matrix at all")
    assert "is not the meta.mat of the ILSVRC2012 development kit" in _reported(val, file)
    scipy.io.savemat(tmp_path / "meta.mat", {"synsets": np.arange(3)})
    assert "is not the meta.mat of the ILSVRC2012 development kit" in _reported(val, file)
    _devkit(file)
    assert "ILSVRC2012_val_00000006" in _reported(val, file, "1\n" * 6)
    assert "(line 2: '1001')" in _reported(val, file, "1\n1001\n1\n1\n1\n"), "an inner node is no class"
    file.write_bytes(b"\xff\xfe\x00")
    assert "is no text file" in _reported(val, file)
    _caffe(file)
    assert "does not exist" in _reported(val / "deeper", file)
    double = tmp_path / "double"
    double.mkdir()
    for name in ("a.jpg", "a.PNG", "b.jpg"):
        (double / name).touch()
    assert "1 names with several extensions (a)" in _reported(double, tmp_path / "ab.txt", "a 1\nb 2\n")
    (tmp_path / "none").mkdir()
    assert "holds no loose images" in _reported(tmp_path / "none", file)
