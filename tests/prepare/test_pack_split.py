"""`hornet-data pack`: other libraries read its shards, and a kill loses only the shards being written."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import resource
import shutil
import signal
import tarfile
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from prepare_trees import hornet_data, marked, open_when_read, photographs, wait_for

from hornet_train.data.address import epoch_order
from hornet_train.images.orientation import exif_of, jpeg_orientation
from hornet_train.prepare.shard_files import Encoding
from hornet_train.tasks.classification.sources import FolderSource, imagenet_wnids, open_shards

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return photographs(tmp_path / "photos", splits=("train",), each=7)


@pytest.fixture
def pack(command: Command, photos: Path, tmp_path: Path) -> Command:
    """Runs `hornet-data pack` on the photographs, into a folder of the given name."""

    def call(out: str, *flags: str) -> tuple[int, str, str]:
        return command("hornet-data", "pack", str(photos), str(tmp_path / out), "--workers", "2", *flags)

    return call


def index_of(out: Path) -> dict[str, object]:
    """The index, whose hashes and sizes are first compared with the files."""
    index = json.loads((out / "train.index.json").read_text())
    for shard in index["shards"]:
        content = (out / shard["file"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (shard["bytes"], shard["sha256"])
    return index


def contents(out: Path) -> dict[str, bytes]:
    """File name -> bytes, of the files directly in `out`."""
    return {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}


def expected(photos: Path) -> list[tuple[bytes, int]]:
    """The bytes and label of every sample, in the order that seed 0 gives."""
    source = FolderSource(photos, "train")
    order = epoch_order(0, 0, len(source))
    return [(Path(source.locate(i)).read_bytes(), source.read(i)["label"]) for i in order.tolist()]


def test_datasets_reads_parquet_shards(pack: Command, photos: Path, tmp_path: Path) -> None:
    code, out, err = pack("out", "--format", "parquet", "--shards", "4")
    assert (code, err) == (0, "")
    assert "21 samples in 4 shards" in out
    index = index_of(tmp_path / "out")
    assert index["classes"] == ["astronaut", "chelsea", "coffee"]
    assert [shard["samples"] for shard in index["shards"]] == [5, 5, 5, 6]
    files = [f"train-{k:05d}-of-00004.parquet" for k in range(4)]
    assert [shard["file"] for shard in index["shards"]] == files
    read = datasets.load_dataset(
        "parquet",
        data_files=[str(tmp_path / "out" / file) for file in files],
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert read.features["label"].names == index["classes"]
    assert isinstance(read.features["image"], datasets.Image)
    assert read[0]["image"].size == (120, 90)
    raw = read.cast_column("image", datasets.Image(decode=False))
    assert [(row["image"]["bytes"], row["label"]) for row in raw] == expected(photos)
    assert (photos / "train" / raw[0]["image"]["path"]).read_bytes() == raw[0]["image"]["bytes"]


def test_tar_shards_have_an_image_and_its_class_under_one_key(
    pack: Command, photos: Path, tmp_path: Path
) -> None:
    assert pack("out", "--format", "webdataset", "--shard-size", "150kB")[0] == 0
    index = index_of(tmp_path / "out")
    total = sum(len(data) for data, _ in expected(photos))
    assert len(index["shards"]) == -(-total // 150_000)
    found, keys = [], []
    for shard in index["shards"]:
        with tarfile.open(tmp_path / "out" / shard["file"]) as tar:
            members = tar.getmembers()
            for image, label in zip(members[::2], members[1::2], strict=True):
                key, extension = image.name.split(".")
                assert label.name == f"{key}.cls"
                assert extension in ("jpg", "png", "webp")
                keys.append(key)
                found.append((tar.extractfile(image).read(), int(tar.extractfile(label).read())))
    assert found == expected(photos)
    assert len(set(keys)) == 21


def test_only_images_above_the_shorter_side_are_scaled_down(
    pack: Command, photos: Path, tmp_path: Path
) -> None:
    large = Image.open(photos / "train" / "coffee" / "00.png").resize((301, 402), Image.Resampling.BICUBIC)
    large.save(photos / "train" / "coffee" / "00.png")
    assert pack("out", "--format", "parquet", "--shards", "1", "--shorter-side", "100")[0] == 0
    rows = pq.read_table(tmp_path / "out" / "train-00000-of-00001.parquet").column("image").to_pylist()
    found = {row["path"]: row["bytes"] for row in rows}
    for path, data in found.items():
        if path != "coffee/00.png":
            assert data == (photos / "train" / path).read_bytes()
    made = Image.open(io.BytesIO(found["coffee/00.png"]))
    assert (made.format, made.size) == ("JPEG", (100, 134))
    wanted = np.asarray(large.resize((100, 134), Image.Resampling.BICUBIC), dtype=int)
    assert np.abs(np.asarray(made, dtype=int) - wanted).mean() < 2  # what JPEG at quality 95 changes


def test_a_smaller_photo_keeps_its_orientation(photos: Path) -> None:
    file = next((photos / "train/astronaut").iterdir())
    plain, _ = Encoding(40, 95).encode(str(file))
    assert b"Exif" not in plain
    with Image.open(file) as image:
        image.save(file, exif=exif_of(6))
    smaller, _ = Encoding(40, 95).encode(str(file))
    assert jpeg_orientation(smaller) == 6
    with Image.open(io.BytesIO(smaller)) as image:
        assert image.size == (53, 40)  # as stored; seen upright it is 40 x 53


def test_row_groups_have_a_hundred_rows(command: Command, tmp_path: Path) -> None:
    for i in range(250):
        path = tmp_path / "dots" / "train" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (1, 1), i).save(path)
    out = tmp_path / "out"
    assert command("hornet-data", "pack", f"{tmp_path}/dots", str(out), "--format", "parquet")[0] == 0
    file = pq.ParquetFile(out / "train-00000-of-00001.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(3)] == [100, 100, 50]


def test_a_kill_loses_only_the_shards_being_written(pack: Command, photos: Path, tmp_path: Path) -> None:
    arguments = ("--format", "parquet", "--shards", "7")
    assert pack("uninterrupted", *arguments)[0] == 0
    image, moved_away = photos / "train" / "chelsea" / "03.webp", tmp_path / "moved_away.webp"
    image.rename(moved_away)
    os.mkfifo(image)
    mark, out = str(tmp_path), tmp_path / "out"
    process = hornet_data("pack", str(photos), str(out), *arguments, "--workers", "2", mark=mark)
    handle = open_when_read(image)
    wait_for(lambda: len(list((out / ".train.pack").glob("*.parquet.json"))) == 6)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    wait_for(lambda: not marked(mark))  # workers end with their parent
    os.close(handle)
    assert len(list((out / ".train.pack").glob("*.part"))) == 1
    assert not (out / "train.index.json").exists()
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    assert len(times) == 6

    image.unlink()
    moved_away.rename(image)
    damaged, *intact = sorted(times)
    with (out / damaged).open("r+b") as file:
        file.seek(100)
        file.write(b"\0\0\0\0")
    code, printed, err = pack("out", *arguments)
    assert (code, err) == (0, "")
    assert f"{damaged} is written again: another SHA-256" in printed
    assert "5 shards of 7 kept" in printed
    assert {name: (out / name).stat().st_mtime_ns for name in intact} == {
        name: times[name] for name in intact
    }
    assert not list((out / ".train.pack").glob("*.part"))
    assert contents(out) == contents(tmp_path / "uninterrupted")

    code, _, err = pack("out", "--format", "parquet", "--shards", "7", "--seed", "1")
    assert code == 2
    assert "holds shards of other arguments: seed was 0, is 1" in err
    shutil.copy(image, image.with_name("new.webp"))
    code, _, err = pack("out", *arguments)
    assert code == 2
    assert "was begun with other images" in err


def test_a_damaged_image_ends_the_packing_or_is_left_out(pack: Command, photos: Path, tmp_path: Path) -> None:
    path = photos / "train" / "astronaut" / "02.jpg"
    os.truncate(path, 1500)
    code, _, err = pack("out", "--format", "webdataset", "--shards", "5")
    assert code == 2
    assert str(path) in err
    assert "--on-bad skip" in err
    code, printed, _ = pack("skip", "--format", "webdataset", "--shards", "5", "--on-bad", "skip")
    assert code == 0
    assert "1 damaged image left out" in printed
    index = index_of(tmp_path / "skip")
    assert [shard["samples"] for shard in index["shards"]] == [4, 4, 4, 4, 4]
    with (tmp_path / "skip" / "train.skipped.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["path"] == str(path)
    assert row["reason"].startswith("cannot be decoded")


def test_images_without_class_folders_need_a_labels_file(
    command: Command, photos: Path, tmp_path: Path
) -> None:
    val = tmp_path / "flat" / "val"
    val.mkdir(parents=True)
    files = sorted((photos / "train").rglob("*.jpg"))[:6]
    for i, file in enumerate(files):
        shutil.copy(file, val / f"ILSVRC2012_val_{i:08d}.jpg")
    (val / "readme.txt").touch()
    labels = tmp_path / "flat" / "val_labels.txt"
    labels.write_text("\n".join(f"ILSVRC2012_val_{i:08d} {100 * i}" for i in range(6)))
    flags = ("--format", "parquet", "--shards", "2", "--split", "val", "--workers", "1")
    code, _, err = command("hornet-data", "pack", str(val.parent), str(tmp_path / "out"), *flags)
    assert code == 2
    assert "--val-labels" in err
    code, out, err = command(
        "hornet-data", "pack", str(val.parent), str(tmp_path / "out"), *flags, "--val-labels", str(labels)
    )
    assert (code, err) == (0, "")
    assert "val: not packed: 1 file: named .txt" in out
    shards = open_shards(str(tmp_path / "out"), "val")
    assert shards.classes == imagenet_wnids()
    read = {(fields["image"].data, fields["label"]) for shard in range(2) for fields in shards.read(shard, 0)}
    assert read == {(file.read_bytes(), 100 * i) for i, file in enumerate(files)}


def test_a_full_disk_is_reported(photos: Path, tmp_path: Path) -> None:
    def limit_file_size() -> None:  # like a full disk: a longer write fails
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    out = tmp_path / "out"
    process = hornet_data(
        "pack", str(photos), str(out), "--format", "parquet", "--shards", "1", preexec_fn=limit_file_size
    )
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert f"{out}/train-00000-of-00001.parquet cannot be written (File too large)" in err
    assert "Traceback" not in err
    assert "ignored" not in err
    assert not list((out / ".train.pack").glob("*.part"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--format", "zip"), "invalid choice: 'zip'"),
        (("--format", "parquet", "--quality", "90"), "set that too"),
        (("--format", "parquet", "--shards", "22"), "--shards 22: there are only 21 images"),
        (("--format", "parquet", "--shards", "2", "--shard-size", "1MB"), "not allowed with argument"),
        (("--format", "parquet", "--shard-size", "big"), "'big' is not a size such as 512MB"),
        (("--format", "parquet", "--split", "val"), "val does not exist; set --split to a folder in"),
        ((), "the following arguments are required: --format"),
    ],
)
def test_mistakes_are_reported_without_a_traceback(
    pack: Command, flags: tuple[str, ...], message: str
) -> None:
    code, _, err = pack("out", *flags)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_an_unusable_folder_is_reported(pack: Command, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be written (Not a directory)" in pack("file", "--format", "parquet", "--shards", "1")[2]
    assert "the folder of the images to pack" in pack("photos/train/out", "--format", "parquet")[2]
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "train-00000-of-00002.parquet").touch()
    assert "choose an empty folder" in pack("taken", "--format", "parquet")[2]
    shutil.rmtree(photos / "train" / "coffee")
    (photos / "train" / "coffee").mkdir()
    assert "class folders without an image (coffee)" in pack("out", "--format", "parquet")[2]
