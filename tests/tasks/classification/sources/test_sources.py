"""Sources: what they hold, that they pickle, and what they say about folders that are wrong."""

from __future__ import annotations

import errno
import os
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from labelled import labelled
from PIL import Image
from sklearn.linear_model import LogisticRegression

from hornet_train.errors import DataError
from hornet_train.tasks.classification.sources import (
    DigitsSource,
    FolderSource,
    LabelledImages,
    SyntheticSource,
    check_wnids,
    imagenet_22k_wnids,
    imagenet_wnids,
)


def _image(path: Path, value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 4), (value, value, value)).save(path, lossless=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        _image(tmp_path / split / "cat" / "b.png", 11)
        _image(tmp_path / split / "cat" / "a.JPEG", 10)
        _image(tmp_path / split / "cat" / "deep" / "er" / "c.WebP", 12)
        _image(tmp_path / split / "größe 狗" / "x y.Png", 20)
        (tmp_path / split / "cat" / "notes.txt").write_text("not an image")
        (tmp_path / split / "cat" / "._a.JPEG").write_bytes(b"what macOS leaves")
    return tmp_path


def _pixels(source: LabelledImages) -> list[tuple[int, int]]:
    pairs = (labelled(source, index) for index in range(len(source)))
    return [(int(image[0, 0, 0]), label) for image, label in pairs]


def test_folders_in_sorted_order_any_case_and_depth(root: Path) -> None:
    source = FolderSource(root, "train")
    assert source.classes == ("cat", "größe 狗")
    assert source.ignored == {".txt": 1, "a dot before the name": 1}
    assert _pixels(source) == [(10, 0), (11, 0), (12, 0), (20, 1)]
    assert source.locate(2) == str(root / "train" / "cat" / "deep" / "er" / "c.WebP")
    copy = pickle.loads(pickle.dumps(source))
    assert [copy.locate(index) for index in range(4)] == [source.locate(index) for index in range(4)]
    assert _pixels(copy) == _pixels(source)


def test_given_classes_set_the_labels(root: Path) -> None:
    classes = ("größe 狗", "absent", "cat")
    source = FolderSource(root, "val", classes)
    assert source.classes == classes
    assert _pixels(source) == [(20, 0), (10, 2), (11, 2), (12, 2)]


def test_a_link_to_a_class_folder_is_followed(root: Path) -> None:
    (root / "train" / "linked").symlink_to(root / "val" / "cat", target_is_directory=True)
    assert FolderSource(root, "train").classes == ("cat", "größe 狗", "linked")


def test_a_damaged_file_is_named_when_read(root: Path) -> None:
    path = root / "train" / "cat" / "a.JPEG"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be decoded") as caught:
        labelled(FolderSource(root, "train"), 0)
    assert str(path) in str(caught.value)


def test_paths_are_held_compactly(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "n01440764"
    folder.mkdir(parents=True)
    for index in range(2000):
        (folder / f"n01440764_{index}.JPEG").touch()
    assert len(pickle.dumps(FolderSource(tmp_path, "train"))) < 2000 * 64


def test_missing_root_and_split_are_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root=.*/nowhere does not exist; set data\.root="):
        FolderSource(tmp_path / "nowhere", "train")
    with pytest.raises(DataError, match=r"has no folder val/; it holds no folders"):
        FolderSource(tmp_path, "val")
    (tmp_path / "validation").mkdir()
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match=r"has no folder val/; there are: train, validation"):
        FolderSource(tmp_path, "val")


def test_all_faults_of_a_split_are_reported_at_once(root: Path) -> None:
    for number in range(7):
        (root / "train" / f"empty_{number}").mkdir()
    with pytest.raises(DataError) as caught:
        FolderSource(root, "train", ("cat", *(f"empty_{number}" for number in range(7))))
    message = str(caught.value)
    assert f"{root / 'train'}: 2 faults" in message
    assert "1 class folder (größe 狗) not among the 8 classes" in message
    expected = "7 class folders (empty_0, empty_1, empty_2, empty_3, empty_4, ...) without an image"
    assert expected in message


def test_images_without_class_folders(tmp_path: Path) -> None:
    _image(tmp_path / "train" / "loose.png")
    with pytest.raises(DataError, match=r"no class folders \(1 images lie in it directly\)"):
        FolderSource(tmp_path, "train")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_folder_is_reported(root: Path) -> None:
    locked = root / "train" / "cat" / "deep"
    locked.chmod(0)
    try:
        with pytest.raises(DataError, match="cannot be listed"):
            FolderSource(root, "train")
    finally:
        locked.chmod(0o755)


def test_wnids_are_checked() -> None:
    wnids = imagenet_wnids()
    check_wnids(wnids[::-1], wnids, "ImageNet-1K")
    with pytest.raises(DataError, match=r"2 missing \(n01440764, n01443537\); 1 unexpected \(cats\)"):
        check_wnids(["cats", *wnids[2:]], wnids, "ImageNet-1K")


def test_the_22k_labels_are_those_of_the_published_map() -> None:
    """What is known of in1k_to_21k_map: 1,000 distinct rows, 209..10458, rising but for nine at the end."""
    rows = {wnid: row for row, wnid in enumerate(imagenet_22k_wnids())}
    assert len(rows) == 10_459
    mapped = [rows[wnid] for wnid in imagenet_wnids()]
    assert (min(mapped), max(mapped)) == (209, 10_458)
    appended = {label: row for label, row in enumerate(mapped) if row >= 10_450}
    assert list(appended) == [152, 165, 166, 167, 175, 241, 262, 268, 850]
    rest = [row for row in mapped if row < 10_450]
    assert rest == sorted(rest)


def test_a_link_round_in_a_circle_is_a_fault(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "train" / name / "below").mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "train" / name / "below" / "1.png")
    (tmp_path / "train" / "a" / "below" / "loop").symlink_to(tmp_path / "train" / "a")
    with pytest.raises(DataError, match=r"a/below/loop is .*a once more.*remove the link"):
        FolderSource(tmp_path, "train")


def test_another_order_of_the_labels(root: Path) -> None:
    source = FolderSource(root, "train").in_order(("größe 狗", "cat"))
    assert _pixels(source) == [(20, 0), (10, 1), (11, 1), (12, 1)]
    with pytest.raises(ValueError, match="other classes"):
        source.in_order(("cat", "dog"))


def test_digits_split_is_fixed_stratified_and_complete() -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    train, val = DigitsSource("train"), DigitsSource("val")
    assert (len(train), len(val)) == (1437, 360)
    places = [source.locate(index) for source in (train, val) for index in range(len(source))]
    assert len(set(places)) == 1797
    shares = Counter(labelled(val, index)[1] for index in range(360))
    for digit, count in Counter(labels.tolist()).items():
        assert abs(shares[digit] - count * 360 / 1797) < 1
    # pinned: a split that moved would change every published number of ours
    assert [int(val.locate(index).split()[-1]) for index in range(5)] == [35, 36, 37, 40, 44]
    image, label = labelled(train, 0)
    assert image.shape == (3, 8, 8)
    assert image.dtype == torch.uint8
    assert label == labels[0]
    assert torch.equal(image[1], torch.from_numpy(np.rint(images[0] * 255 / 16)).view(8, 8).byte())
    assert max(int(labelled(train, index)[0].max()) for index in range(50)) == 255
    with pytest.raises(DataError, match="digits have no split 'test'"):
        DigitsSource("test")  # type: ignore[arg-type]


def test_synthetic_is_a_function_of_seed_and_index_and_can_be_learnt() -> None:
    source = SyntheticSource(400, 16, 10, seed=3)
    again = pickle.loads(pickle.dumps(source))
    assert torch.equal(labelled(source, 7)[0], labelled(again, 7)[0])
    assert not torch.equal(labelled(source, 7)[0], labelled(SyntheticSource(400, 16, 10, seed=4), 7)[0])
    assert not torch.equal(labelled(source, 7)[0], labelled(source, 17)[0])
    assert labelled(source, 17)[0].shape == (3, 16, 16)
    samples = [labelled(source, index) for index in range(400)]
    x = np.stack([image.numpy().ravel() / 255 for image, _ in samples])
    y = np.array([label for _, label in samples])
    assert LogisticRegression(max_iter=200).fit(x[:300], y[:300]).score(x[300:], y[300:]) > 0.9
    with pytest.raises(ValueError, match="num_classes"):
        SyntheticSource(1, 1, 0)


def test_a_folder_that_cannot_be_looked_into_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As root here, no folder is closed to us."""
    stat = os.stat

    def closed(path: str | os.PathLike[str], **more: Any) -> os.stat_result:
        if os.fspath(path).startswith(f"{tmp_path}/root/"):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return stat(path, **more)

    (tmp_path / "root").mkdir()
    monkeypatch.setattr(os, "stat", closed)
    with pytest.raises(DataError, match=r"data.root=.*root cannot be looked into \(Permission denied\)"):
        FolderSource(tmp_path / "root", "train")
