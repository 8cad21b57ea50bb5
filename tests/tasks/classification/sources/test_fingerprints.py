"""Fingerprints stay what they were: a run that is resumed compares its own with the one it began with."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from shards import CLASSES, LABELS, pictures, write_index, write_parquet, write_tar

from hornet_train.tasks.classification.sources import (
    DigitsSource,
    FlatSource,
    FolderSource,
    HubSource,
    SyntheticSource,
    imagenet_wnids,
    open_shards,
)

SAMPLES = pictures()
COUNT = len(SAMPLES)
SIZES = np.array([len(encoded) for encoded, _ in SAMPLES], dtype=np.int64)
NUMBERS = np.array(LABELS, dtype=np.int64)
FILES = ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("HORNET_CACHE", str(tmp_path / "ours"))


def sha256(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (2, 2)).save(path)


def test_of_class_folders(tmp_path: Path) -> None:
    for name in ("cat/b.png", "cat/deep/a.jpg", "größe 狗/x y.png"):
        touch(tmp_path / "train" / name)
    source = FolderSource(tmp_path, "train")
    assert source.fingerprint == "e9a9fb9bc78a5446298f669a6a8e3bf8ccd63d68df41e628c3492a6a6d69197b"
    other = source.in_order(("größe 狗", "cat"))
    assert other.fingerprint == "5bff20cac9bbd33a02efb8fbc2370a8112147a28a93dafaee00608f7f6167d11"


def test_of_a_flat_folder(tmp_path: Path) -> None:
    for i in (1, 2):
        touch(tmp_path / "val" / f"ILSVRC2012_val_{i:08d}.JPEG")
    (tmp_path / "labels.txt").write_text("ILSVRC2012_val_00000001 65\nILSVRC2012_val_00000002 970\n")
    source = FlatSource(tmp_path / "val", tmp_path / "labels.txt", imagenet_wnids())
    assert source.fingerprint == "1e871002bf7eabbe29099ea8f0a2296a2038a1cdf32d2adafafb4c647f3aaa69"


def test_of_what_is_made_here() -> None:
    assert (
        DigitsSource("train").fingerprint
        == "839455e1cb6b4c24607d137138b0f438f0e721c872f7c524876a62d375a0c979"
    )
    assert (
        DigitsSource("val").fingerprint == "49567070807fd9710b34ad5cd5eb6e0d6061949c273281d1bb38dd49935e0d8d"
    )
    assert SyntheticSource(30, 16, 7, seed=3).fingerprint == sha256(b"(30, 16, 7, 3)")


def test_of_tables_with_random_access(tmp_path: Path) -> None:
    """Sizes are summed up chunk by chunk, so their bytes are those of one array."""
    write_parquet(tmp_path, "train", SAMPLES)
    expected = sha256(NUMBERS.tobytes(), SIZES.tobytes(), repr(CLASSES).encode())
    assert HubSource(str(tmp_path), "train").fingerprint == expected


def test_of_streamed_tables(tmp_path: Path) -> None:
    paths = write_parquet(tmp_path, "train", SAMPLES)
    sizes = [path.stat().st_size for path in paths]
    columns = f"Columns(image='image', label='label', names={CLASSES!r})"
    described = f"({FILES!r}, {sizes!r}, (6, 6), {CLASSES!r}, {columns})"
    assert open_shards(str(tmp_path), "train").fingerprint == sha256(described.encode())


def test_of_tars(tmp_path: Path) -> None:
    write_tar(tmp_path / "train-0.tar", SAMPLES[:7])
    write_tar(tmp_path / "train-1.tar", SAMPLES[7:], first=7)
    write_index(tmp_path, "train", {"train-0.tar": 7, "train-1.tar": COUNT - 7})
    described = f"(['train-0.tar', 'train-1.tar'], (7, {COUNT - 7}), {CLASSES!r})"
    expected = sha256(described.encode(), SIZES.tobytes(), NUMBERS.tobytes())
    assert open_shards(str(tmp_path), "train").fingerprint == expected
