"""A share of each class held out: how many, that they are always the same, and under which labels."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from pictures import PHOTO

from hornet_train.errors import DataError
from hornet_train.tasks.classification.sources import FolderSource
from hornet_train.tasks.classification.sources.held_out_share import hold_out
from hornet_train.tasks.classification.sources.labelled import ListedImages


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Classes of 20, 7, 2 and 1 images."""
    for name, count in (("ant", 20), ("bee", 7), ("cat", 2), ("dog", 1)):
        folder = tmp_path / "data" / "train" / name
        folder.mkdir(parents=True)
        for i in range(count):
            PHOTO.resize((4, 4)).save(folder / f"{i}.png")
    return tmp_path / "data"


def files(source: ListedImages) -> list[str]:
    return [source.key(index).decode() for index in range(len(source))]


def test_each_class_gives_its_share_and_no_image_is_on_both_sides(root: Path) -> None:
    source = FolderSource(root, "train")
    train, val = hold_out(source, 0.2)
    assert sorted(files(train) + files(val)) == sorted(files(source))
    by_class = [sum(name.startswith(one) for name in files(val)) for one in ("ant", "bee", "cat", "dog")]
    assert by_class == [4, 1, 1, 0]
    assert (train.classes, val.classes) == (("ant", "bee", "cat", "dog"), ("ant", "bee", "cat"))
    assert val.in_order(train.classes).absent == ("dog",)
    for part in (train, val):
        for index, name in enumerate(files(part)):
            label = part.read(index)["label"]
            assert name.startswith(part.classes[label])
            assert part.locate(index) == str(root / "train" / name)
            assert part.labels[index] == label
    assert [len(part) for part in hold_out(source, 0.999)] == [4, 26]  # never all of a class


def test_they_are_the_same_in_another_place_and_another_order(root: Path, tmp_path: Path) -> None:
    first = hold_out(FolderSource(root, "train"), 0.3)
    moved = Path(shutil.move(root / "train", tmp_path / "elsewhere"))
    turned = ("dog", "ant", "cat", "bee")
    again = hold_out(FolderSource(moved.parent, moved.name), 0.3)
    other = hold_out(FolderSource(moved.parent, moved.name).in_order(turned), 0.3)
    for a, b, c in zip(first, again, other, strict=True):
        assert (files(a), a.fingerprint) == (files(b), b.fingerprint)
        assert sorted(files(a)) == sorted(files(c))
        assert c.fingerprint != a.fingerprint
        back = c.in_order(first[0].classes)
        assert (files(back), back.fingerprint) == (files(a), a.in_order(first[0].classes).fingerprint)
    smaller = set(files(hold_out(FolderSource(moved.parent, moved.name), 0.1)[1]))
    assert smaller < set(files(first[1]))
    assert files(first[1]) != sorted(files(FolderSource(moved.parent, moved.name)))[: len(first[1])]


def test_single_images_leave_nothing_to_hold_out(root: Path) -> None:
    for name in ("ant", "bee", "cat"):
        shutil.rmtree(root / "train" / name)
    with pytest.raises(DataError, match=r"data.val_share=0.5 holds nothing out"):
        hold_out(FolderSource(root, "train"), 0.5)
