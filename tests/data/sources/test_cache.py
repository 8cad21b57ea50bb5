"""Scans of trees: what is kept, for how long it holds, and how much memory it takes."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hornet_train.data.sources import cache, files
from hornet_train.data.sources.files import FileTree
from hornet_train.data.sources.tree import scan

PNG = (".png",)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HORNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_SETTLED_NS", 0)
    monkeypatch.setattr(
        files, "scan_cached", lambda folder, which: cache.scan_cached(folder, which, cached_from=1)
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("cat/a.png", "cat/deep/b.png", "dog/c.png", "dog/d.png"):
        path = tmp_path / "data" / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (3, 2), (len(name), 0, 0)).save(path)
    return tmp_path / "data"


def places(root: Path) -> list[tuple[str, int]]:
    tree = FileTree(root / "train", PNG)
    names = [os.path.relpath(tree.locate(index), root / "train") for index in range(len(tree))]
    return [(name, tree.tree.name(index)[0]) for index, name in enumerate(names)]


def test_a_kept_scan_is_used_until_a_file_comes_goes_or_moves(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[Path] = []

    def counted(folder: Path, extensions: tuple[str, ...]) -> object:
        scans.append(folder)
        return scan(folder, extensions)

    monkeypatch.setattr(cache, "scan", counted)
    train = root / "train"
    first = places(root)
    assert first == [("cat/a.png", 0), ("cat/deep/b.png", 0), ("dog/c.png", 1), ("dog/d.png", 1)]
    assert places(root) == first
    assert len(scans) == 1, "scanned again though nothing had changed"
    changes = [
        lambda: shutil.copy(train / "cat/a.png", train / "cat/deep/new.png"),
        lambda: (train / "dog/c.png").unlink(),
        lambda: (train / "dog/d.png").rename(train / "dog/e.png"),
        lambda: shutil.copytree(train / "cat", train / "ant"),
        lambda: shutil.rmtree(train / "cat/deep"),
    ]
    for count, change in enumerate(changes, start=2):
        before = places(root)
        change()
        after = places(root)
        assert after != before
        assert len(scans) == count
        shutil.rmtree(cache.cache_folder())
        assert places(root) == after, "the kept scan is not what a new one finds"
        scans.pop()


def test_a_damaged_or_unwritable_cache_costs_a_scan_and_nothing_else(root: Path) -> None:
    first = places(root)
    (kept,) = (cache.cache_folder() / "scans").glob("*/")
    (kept / "ends.npy").write_bytes(b"")
    assert places(root) == first
    (kept / "tree.json").write_text("{")
    assert places(root) == first
    shutil.rmtree(cache.cache_folder())
    cache.cache_folder().write_text("a file where a folder should be")
    assert places(root) == first


def test_what_an_older_version_kept_is_scanned_again(root: Path) -> None:
    first = places(root)
    (kept,) = (cache.cache_folder() / "scans").glob("*/")
    facts = json.loads((kept / "tree.json").read_text())
    (kept / "tree.json").write_text(json.dumps({**facts, "folders": ["x", "y"]}))
    assert places(root) != first, "what is kept is not used"
    (kept / "tree.json").write_text(json.dumps({**facts, "version": 3, "folders": ["x", "y"]}))
    assert places(root) == first


def test_a_folder_that_changes_while_it_is_scanned_is_not_kept(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_SETTLED_NS", 10**12)
    places(root)
    assert not list((cache.cache_folder() / "scans").glob("*/"))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_map_what_is_kept(root: Path, method: str) -> None:
    source = FileTree(root / "train", PNG)
    assert isinstance(source.tree.names, np.memmap)
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        assert list(pool.map(source.locate, range(4))) == [source.locate(index) for index in range(4)]
        assert list(pool.map(source.read, range(4))) == [source.read(index) for index in range(4)]
    assert len(pickle.dumps(source)) < 2000


def test_twenty_thousand_files_take_a_hundred_bytes_each_at_most(tmp_path: Path) -> None:
    """1.5 GB for 14.2 million files are 105 bytes a file, while they are listed as afterwards."""
    for k in range(100):
        folder = tmp_path / "train" / f"n{k:08d}"
        folder.mkdir(parents=True)
        for i in range(200):
            os.mknod(folder / f"n{k:08d}_{i}.JPEG")
    scan(tmp_path / "train", (".jpeg",))  # imports and pools
    tracemalloc.start()
    tree = scan(tmp_path / "train", (".jpeg",))
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(tree) == 20_000
    assert kept < 20_000 * 30
    assert peak < 20_000 * 105
    assert len(pickle.dumps(tree)) < 20_000 * 30
