"""Storage as other tasks than classification want it: two files a sample, no label."""

from __future__ import annotations

import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import datasets
import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from shards import add

from hornet_train.data.sources.files import FileList, FileTree, read_file
from hornet_train.data.sources.hub import open_files
from hornet_train.data.sources.source import Encoded
from hornet_train.data.sources.split_files import find_files
from hornet_train.data.sources.table_rows import TableRows
from hornet_train.data.sources.table_shards import ParquetShards
from hornet_train.data.sources.tar_members import Member, TarSample
from hornet_train.data.sources.tar_shards import TarShards
from hornet_train.errors import DataError, SampleError

PAIRS = [(b"image %d" % i, b"mask %d" % i) for i in range(5)]
COLUMNS = {"image": "photo", "mask": "labels.png"}


class ImageAndMask:
    """`<key>.jpg` and `<key>.png`."""

    name = "image and mask"
    files = ("image", "mask")
    numbers = ("members",)

    def begin(self, key: str, path: str) -> Collected:
        return Collected(f"{path}: {key}")


class Collected:
    def __init__(self, where: str) -> None:
        self.where = where
        self.found: dict[str, Member] = {}

    def add(self, member: Member, content: Callable[[], bytes]) -> None:
        self.found[member.suffix] = member
        if member.suffix == "txt":
            assert content() == b"a caption"

    def done(self) -> TarSample:
        if not {"jpg", "png"} <= self.found.keys():
            raise DataError(f"{self.where} is not an image and a mask")
        return TarSample((self.found["jpg"], self.found["png"]), (len(self.found),))


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setenv("HORNET_CACHE", str(tmp_path / "ours"))


def write_table(folder: Path) -> None:
    folder.mkdir()
    for k, pairs in enumerate((PAIRS[:3], PAIRS[3:])):
        photos = [{"bytes": image, "path": f"{k}.jpg"} for image, _ in pairs]
        labels = [{"png": mask} for _, mask in pairs]
        table = pa.table({"photo": photos, "labels": labels, "city": [k] * len(pairs)})
        pq.write_table(table, folder / f"train-{k}.parquet")


def write_tars(folder: Path) -> list[str]:
    folder.mkdir()
    for k, pairs in enumerate((PAIRS[:3], PAIRS[3:])):
        with tarfile.open(folder / f"train-{k}.tar", "w") as tar:
            for i, (image, mask) in enumerate(pairs):
                add(tar, f"{k}{i}.png", mask)
                add(tar, f"{k}{i}.txt", b"a caption")
                add(tar, f"{k}{i}.jpg", image)
    return [str(folder / f"train-{k}.tar") for k in range(2)]


def test_rows_of_two_files_each(tmp_path: Path) -> None:
    write_table(tmp_path / "set")
    files = find_files(str(tmp_path / "set"), "train")
    rows = TableRows(open_files(files, "photos"), files=COLUMNS, numbers={"city": "city"})
    rows = pickle.loads(pickle.dumps(rows))
    assert len(rows) == 5
    for row, (image, mask) in enumerate(PAIRS):
        place = f"photos, split train, row {row}"
        assert rows.locate(row) == f"{place} ({row // 3}.jpg)"
        assert rows.read(row) == {
            "image": Encoded(image, rows.locate(row)),
            "mask": Encoded(mask, place),
            "city": row // 3,
        }
    assert np.concatenate([*map(np.asarray, rows.sizes("mask"))]).tolist() == [6] * 5


def test_a_row_without_one_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    pq.write_table(pa.table({"photo": [b"x"], "mask": pa.nulls(1, pa.binary())}), tmp_path / "set/a.parquet")
    files = find_files(str(tmp_path / "set"), "train")
    rows = TableRows(open_files(files, "photos"), files={"image": "photo", "mask": "mask"}, numbers={})
    with pytest.raises(SampleError, match="row 0: the row holds no mask"):
        rows.read(0)


def test_streamed_rows_of_two_files_each(tmp_path: Path) -> None:
    write_table(tmp_path / "set")
    shards = ParquetShards([str(tmp_path / f"set/train-{k}.parquet") for k in range(2)])
    shards.choose(files=COLUMNS, numbers={})
    assert shards.lengths == (3, 2)
    read = [tuple(file.data for file in fields.values()) for k in range(2) for fields in shards.read(k, 1)]
    assert read == [*PAIRS[1:3], *PAIRS[4:]]
    with pytest.raises(DataError, match="has no column depth"):
        shards.choose(files={"depth": "depth"}, numbers={})


@pytest.mark.parametrize("far", [False, True])
def test_tars_of_two_files_a_sample(tmp_path: Path, far: bool) -> None:
    paths = write_tars(tmp_path / "set")
    filesystem = fsspec.filesystem("memory")
    filesystem.put(str(tmp_path / "set"), "/pairs", recursive=True)
    try:
        if far:
            urls = [f"memory://pairs/train-{k}.tar" for k in range(2)]
            with pytest.raises(ValueError, match="have to be known"):
                TarShards(urls, ImageAndMask())
            shards = TarShards(urls, ImageAndMask(), (3, 2))
        else:
            shards = TarShards(paths, ImageAndMask())
            assert TarShards(paths, ImageAndMask()).lengths == shards.lengths  # from the cache
        assert shards.lengths == (3, 2)
        read = [fields for k in range(2) for fields in shards.read(k, 1)]
    finally:
        filesystem.rm("/pairs", recursive=True)
    assert [(fields["image"].data, fields["mask"].data) for fields in read] == [*PAIRS[1:3], *PAIRS[4:]]
    assert [fields["members"] for fields in read] == [3] * 3
    assert read[0]["mask"].where.endswith("train-0.tar: 01.png")


def test_a_scan_is_kept_for_its_rule_alone(tmp_path: Path) -> None:
    class Masks(ImageAndMask):
        name = "masks"
        files = ("mask",)
        numbers = ()

        def begin(self, key: str, path: str) -> Collected:
            class Mask(Collected):
                def done(self) -> TarSample:
                    return TarSample((self.found["png"],), ())

            return Mask(f"{path}: {key}")

    paths = write_tars(tmp_path / "set")
    TarShards(paths, ImageAndMask())
    for _ in range(2):
        found = list(TarShards(paths, Masks()).read(0, 0))
        assert [fields["mask"].data for fields in found] == [mask for _, mask in PAIRS[:3]]
    assert next(iter(TarShards(paths, ImageAndMask()).read(0, 0))).keys() == {"image", "mask", "members"}


def test_an_incomplete_sample_is_reported_by_its_rule(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "train.tar", "w") as tar:
        add(tar, "a.jpg", b"x")
    with pytest.raises(DataError, match=r"train\.tar: a is not an image and a mask"):
        TarShards([str(tmp_path / "train.tar")], ImageAndMask())


def test_files_of_a_tree_by_their_extensions(tmp_path: Path) -> None:
    for name in ("aachen/0.PNG", "aachen/0.json", "bonn/deep/1.png", "loose.png"):
        (tmp_path / "masks" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "masks" / name).write_bytes(name.encode())
    masks = FileTree(tmp_path / "masks", (".png",))
    assert [masks.read(i).data for i in range(len(masks))] == [b"aachen/0.PNG", b"bonn/deep/1.png"]
    assert masks.tree.ignored == {".json": 1}
    described = FileTree(tmp_path / "masks", (".json",))
    assert [described.locate(i) for i in range(len(described))] == [str(tmp_path / "masks/aachen/0.json")]
    with pytest.raises(DataError, match="nowhere: cannot be listed"):
        FileTree(tmp_path / "nowhere", (".png",))


def test_files_of_a_list(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"b")
    files = FileList(tmp_path, [b"b.jpg", b"gone.jpg"])
    assert list(files) == [b"b.jpg", b"gone.jpg"]
    assert files.read(0) == Encoded(b"b", str(tmp_path / "b.jpg")) == read_file(str(tmp_path / "b.jpg"))
    with pytest.raises(SampleError, match=r"gone\.jpg: cannot be read"):
        files.read(1)
