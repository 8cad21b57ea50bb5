"""Files that have gone get their places back; what is new is told."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornet_train.data.sources.files import FileTree
from hornet_train.data.sources.kept_files import Changed, keep_files
from hornet_train.errors import DataError, SampleError

NAMES = st.sampled_from(["a/1.jpg", "a/10.jpg", "a/2.jpg", "a/x/1.jpg", "b/1.jpg", "b/é.jpg", "c/d/e.jpg"])


def made(root: Path, names: set[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


@settings(max_examples=40, deadline=None)
@given(before=st.sets(NAMES, min_size=1), gone=st.sets(NAMES), folders_too=st.booleans())
def test_what_has_gone_is_back_in_its_place(before: set[str], gone: set[str], folders_too: bool) -> None:
    with tempfile.TemporaryDirectory() as place:
        root, kept = Path(place, "data"), Path(place, "files/train.gz")
        made(root, before)
        whole = FileTree(root, (".jpg",))
        keep_files(whole.tree, kept)
        for name in gone & before:
            (root / name).unlink()
            if folders_too and not list((root / name).parents[len(Path(name).parts) - 2].rglob("*.jpg")):
                shutil.rmtree(root / Path(name).parts[0])
        left = FileTree(root, (".jpg",), kept)
        assert left.changed == Changed(tuple(sorted(name.encode() for name in gone & before)))
        assert left.tree.folders == whole.tree.folders
        for name in ("names", "ends", "first", "begin"):
            np.testing.assert_array_equal(getattr(left.tree, name), getattr(whole.tree, name))
        assert [left.locate(k) for k in range(len(left))] == [whole.locate(k) for k in range(len(whole))]


def test_new_files_are_told_and_nothing_is_added(tmp_path: Path) -> None:
    root, kept = tmp_path / "data", tmp_path / "files/train.gz"
    made(root, {"a/1.jpg", "a/2.jpg"})
    keep_files(FileTree(root, (".jpg",)).tree, kept)
    (root / "a/1.jpg").unlink()
    made(root, {"b/1.jpg"})
    tree = FileTree(root, (".jpg",), kept)
    assert tree.changed == Changed((b"a/1.jpg",), (b"b/1.jpg",))
    assert len(tree) == 2
    assert [tree.read(k).data for k in range(2)] == [b"x", b"x"]
    keep_files(tree.tree, kept)  # the run goes on with these
    (root / "b/1.jpg").unlink()
    again = FileTree(root, (".jpg",), kept)
    assert again.changed.gone == (b"b/1.jpg",)
    with pytest.raises(SampleError, match=r"b/1\.jpg"):
        again.read(1)


@pytest.mark.parametrize("content", [b"", b"no gzip", b"\x1f\x8b\x08\x00\x00"])
def test_a_list_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes) -> None:
    made(tmp_path / "data", {"a/1.jpg"})
    (tmp_path / "train.gz").write_bytes(content)
    if content:
        with pytest.raises(DataError, match="cannot be read"):
            FileTree(tmp_path / "data", (".jpg",), tmp_path / "train.gz")
