"""`hornet-data check` and `pack` on a task whose images have no label: each has boxes and a mask."""

from __future__ import annotations

import hashlib
import json
import tarfile
from pathlib import Path

import datasets
import pytest
from helpers import run
from prepare_trees import photographs

TASK = """
import json
from hashlib import sha256

from hornet_train.data.sources.packed import PackedPaths
from hornet_train.tasks.classification.build.kit import ClassificationKit
from hornet_train.tasks.stored_files import FilesFound, FilesToPack, ImageFiles, StoredField

BOXES = StoredField("boxes", ".json", "text", {"dtype": "string", "_type": "Value"})
MASK = StoredField("mask", ".mask.png", "bytes", {"dtype": "binary", "_type": "Value"})


class BoxKit(ClassificationKit):
    def check_files(self, root, splits, *, open_files):
        found = FilesFound(training=splits[0])
        for name in splits:
            folder = root / name
            paths = sorted(path.name.encode() for path in folder.glob("*.jpg"))
            found.splits.append(ImageFiles(name, folder, PackedPaths(paths)))
            found.lines.append(f"{name}: {len(paths)} images with boxes")
        return found

    def list_files(self, folder, name, labels):
        boxes = json.loads((folder / "boxes.json").read_text())
        names = sorted(boxes)

        def values(index):
            return json.dumps(boxes[names[index]]), (folder / names[index]).with_suffix(".png").read_bytes()

        return FilesToPack(
            name,
            folder,
            PackedPaths(one.encode() for one in names),
            fields=(BOXES, MASK),
            values=values,
            facts={"boxes": sum(map(len, boxes.values()))},
            fingerprint=sha256((folder / "boxes.json").read_bytes()).hexdigest(),
        )


KIT = BoxKit()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """train/ and val/: pictures side by side, a mask for each, and a file with the boxes of all."""
    (tmp_path / "box_files.py").write_text(TASK)
    for split in ("train", "val"):
        folder = photographs(tmp_path / "photos", splits=(split,), each=9) / split
        boxes = {}
        for number, path in enumerate(sorted(folder.glob("astronaut/*.jpg"))):
            moved = path.rename(folder / f"{path.parent.name}-{path.name}")
            moved.with_suffix(".png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes([number]))
            boxes[moved.name] = [[number, 1, 2, 3]] * (number % 3)
        (folder / "boxes.json").write_text(json.dumps(boxes))
    return tmp_path / "photos"


def test_files_without_labels_are_checked(root: Path, tmp_path: Path) -> None:
    (root / "val" / "astronaut-00.jpg").write_bytes(b"no image")
    flags = ("--task", f"{tmp_path}/box_files.py", "--csv", f"{tmp_path}/bad.csv", "--workers", "1")
    checked = run("hornet-data", "check", str(root), *flags)
    out = checked.stdout
    assert checked.returncode == 0
    assert "train: 9 images with boxes" in out
    assert "train: 9 of 9 images decode, 0 damaged" in out
    assert "warning: 1 of 9 images in val/ is damaged (astronaut-00.jpg): a training names and counts" in out
    assert "astronaut-00.jpg" in (tmp_path / "bad.csv").read_text()


def test_every_field_is_packed_and_read_back(root: Path, tmp_path: Path) -> None:
    boxes = json.loads((root / "train" / "boxes.json").read_text())
    flags = ("--task", f"{tmp_path}/box_files.py", "--shards", "2", "--workers", "1")
    parquet, tars = tmp_path / "parquet", tmp_path / "tars"
    for out, kind in ((parquet, "parquet"), (tars, "webdataset")):
        assert run("hornet-data", "pack", str(root), str(out), "--format", kind, *flags).returncode == 0
        assert json.loads((out / "train.index.json").read_text())["boxes"] == sum(map(len, boxes.values()))

    read = datasets.load_dataset(
        "parquet", data_files=f"{parquet}/*.parquet", split="train", cache_dir=f"{tmp_path}/cache"
    )
    assert set(read.column_names) == {"image", "boxes", "mask"}
    found = {row["image"]["path"]: row for row in read.cast_column("image", datasets.Image(decode=False))}
    assert {name: json.loads(row["boxes"]) for name, row in found.items()} == boxes
    for name, row in found.items():
        assert row["mask"] == (root / "train" / name).with_suffix(".png").read_bytes()

    contents = {}
    for file in tars.glob("*.tar"):
        with tarfile.open(file) as tar:
            contents.update({one.name: tar.extractfile(one).read() for one in tar})
    assert len(contents) == 3 * len(boxes)
    for key, name in enumerate(sorted(boxes)):
        assert contents[f"{key:09d}.jpg"] == (root / "train" / name).read_bytes()
        assert json.loads(contents[f"{key:09d}.json"]) == boxes[name]
        assert contents[f"{key:09d}.mask.png"] == found[name]["mask"]

    # a shard whose record fits, but whose boxes are others, is found and written again
    shard = next(one for one in tars.glob("*.tar") if b"[[7, 1, 2, 3]]" in one.read_bytes())
    before = shard.read_bytes()
    shard.write_bytes(before.replace(b"[[7, 1, 2, 3]]", b"[[9, 1, 2, 3]]"))
    record = tars / ".train.pack" / f"{shard.name}.json"
    changed = {**json.loads(record.read_text()), "sha256": hashlib.sha256(shard.read_bytes()).hexdigest()}
    record.write_text(json.dumps(changed))
    again = run("hornet-data", "pack", str(root), str(tars), "--format", "webdataset", *flags)
    assert (again.returncode, "is written again: another boxes" in again.stdout) == (0, True), again
    assert shard.read_bytes() == before


@pytest.mark.parametrize("arguments", [("check", "."), ("pack", ".", "out", "--format", "parquet")])
def test_a_task_without_files_says_so(arguments: tuple[str, ...]) -> None:
    refused = run("hornet-data", *arguments, "--task", "examples.own_task")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == f"hornet-data: task=own_task does not {arguments[0]} data sets\n"
