"""Shards, labels and folders made to lead elsewhere, to fill the memory or to go on without end."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import zlib
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from labelled import labelled
from shards import dataset, pictures

from hornet_train.errors import DataError, SampleError
from hornet_train.images.decode import read_image
from hornet_train.tasks.classification.layout.split_layout import list_split
from hornet_train.tasks.classification.sources import HubSource, open_shards
from hornet_train.tasks.classification.sources.labelled_tars import scan_labelled
from hornet_train.tasks.classification.sources.val_labels import read_val_labels
from hornet_train.tasks.classification.suites.real import RealSource

END = bytes(1024)
pytestmark = pytest.mark.faults


@pytest.fixture(autouse=True)
def _own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HORNET_CACHE", str(tmp_path / "cache"))


def head(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type = size, kind
    return member.tobuf(tarfile.USTAR_FORMAT)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(**records: bytes) -> bytes:
    """A header of extensions: records of which each counts its own length."""
    content = b""
    for key, value in records.items():
        rest = b" %s=%s\n" % (key.replace("__", ".").encode(), value)
        size = next(n for n in range(len(rest), len(rest) + 20) if n == len(rest) + len(str(n)))
        content += b"%d%s" % (size, rest)
    return head("././@PaxHeader", len(content), tarfile.XHDTYPE) + padded(content)


def sample(name: str, label: bytes) -> bytes:
    return head("a.jpg", 3) + padded(b"abc") + head(name, len(label)) + padded(label)


GOOD = sample("a.cls", b"0")
HOLES = pax(GNU__sparse__major=b"1", GNU__sparse__minor=b"0", GNU__sparse__realsize=b"9" * 12)
LONG = head("././@LongLink", 2**21, tarfile.GNUTYPE_LONGNAME) + b"a/" * 2**20
LINK = head("a.jpg", 0, tarfile.SYMTYPE)
TARS = {
    "a size below zero": (pax(size=b"-1024") + GOOD, "leads back"),
    "and one further on": (GOOD + pax(size=b"-2048") + head("b.jpg", 3), "leads back"),
    "a size beyond all": (pax(size=b"9" * 30) + GOOD, "ends within"),
    "headers of headers": (pax(comment=b"x") * 3000 + GOOD, "RecursionError"),
    "a long name": (LONG + GOOD, "is to have 2,097,152 bytes"),
    "holes that are none": (HOLES + GOOD, "is damaged"),
    "a link for an image": (LINK + head("a.cls", 1) + padded(b"0"), "has no image"),
    "a deep label": (sample("a.json", b"[" * 9 * 10**5), "not a label"),
    "a large label": (sample("a.cls", b"0" * 2 * 10**6), "are no label"),
    "a label of digits": (sample("a.cls", b"9" * 30), "from 0 on"),
}


@pytest.mark.parametrize("name", TARS)
def test_a_tar_is_refused_in_words(tmp_path: Path, name: str) -> None:
    data, content = TARS[name]
    (tmp_path / "train.tar").write_bytes(data + END)
    with pytest.raises(DataError, match=content):
        scan_labelled([str(tmp_path / "train.tar")])


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK])
def test_a_header_of_gigabytes_is_not_read(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "train.tar"
    path.write_bytes(head("x", 6 * 2**30, kind))
    os.truncate(path, 7 * 2**30)  # a hole: it takes no space on the disk
    with pytest.raises(DataError, match="is to have 6,442,450,944 bytes"):
        scan_labelled([str(path)])


def test_names_in_a_tar_lead_nowhere(tmp_path: Path) -> None:
    """Members are found by their place and never unpacked under their names."""
    folder, names = tmp_path / "shards", ("../../escaped", f"{tmp_path}/absolute", "a/../../up")
    folder.mkdir()
    with tarfile.open(folder / "train.tar", "w") as tar:
        for name, (encoded, label) in zip(names, pictures(3), strict=True):
            for suffix, data in ((".jpg", encoded), (".cls", str(label).encode())):
                member = tarfile.TarInfo(name + suffix)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    assert len(list(open_shards(str(folder), "train").read(0, 0))) == 3
    assert len(HubSource(str(folder), "train")) == 3
    assert {path for path in tmp_path.rglob("*") if "cache" not in path.parts} == before


def test_a_row_names_no_file_outside_of_the_data(tmp_path: Path) -> None:
    folder, secret = tmp_path / "set", tmp_path / "private.jpg"
    encoded = pictures(1)[0][0]
    secret.write_bytes(encoded)
    folder.mkdir()
    (folder / "beside.jpg").write_bytes(encoded)
    (folder / "link.jpg").symlink_to(secret)
    paths = [secret, folder / "../private.jpg", folder / "link.jpg", "/dev/zero", folder / "beside.jpg"]
    image = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    rows = pa.array([{"bytes": None, "path": str(path)} for path in paths], type=image)
    pq.write_table(pa.table({"image": rows, "label": [0] * len(paths)}), folder / "train.parquet")
    source = HubSource(str(folder), "train")
    for index in range(4):
        with pytest.raises(SampleError, match="names a file outside of the data set"):
            source.read(index)
    assert labelled(source, 4)[0].ndim == 3


def test_lists_of_files_name_no_others(tmp_path: Path) -> None:
    dataset(pictures(3)).save_to_disk(str(tmp_path / "saved"))
    state = tmp_path / "saved" / "state.json"
    kept = json.loads(state.read_text())
    for name in ("../other.arrow", "/etc/passwd", "..", "a/b.arrow"):
        state.write_text(json.dumps({**kept, "_data_files": [{"filename": name}], "_split": "train"}))
        with pytest.raises(DataError, match="which is no file beside it"):
            open_shards(str(tmp_path / "saved"), "train")
    for text in ("[" * 10**5, '{"_data_files": 3}', "[]", '{"_data_files": ["x"]}'):
        state.write_text(text)
        with pytest.raises(DataError, match="is damaged"):
            open_shards(str(tmp_path / "saved"), "train")
    (tmp_path / "set").mkdir()
    dataset(pictures(3)).to_parquet(tmp_path / "set" / "train.parquet")
    shard = {"file": "../../../etc/passwd", "samples": 3, "bytes": 3}
    for text, content in (
        (json.dumps({"classes": ["a"], "shards": [shard]}), "which is no file beside it"),
        ("[" * 10**5, "nested too deeply"),
        (json.dumps({"classes": ["a"], "shards": [{**shard, "bytes": 1e999}]}), "not an index"),
    ):
        (tmp_path / "set" / "train.index.json").write_text(text)
        with pytest.raises(DataError, match=content):
            open_shards(str(tmp_path / "set"), "train")


def test_more_rows_than_bytes_are_no_images(tmp_path: Path) -> None:
    rows = 10**6
    image = pa.StructArray.from_arrays(
        [pa.nulls(rows, pa.binary()), pa.nulls(rows, pa.string())], names=["bytes", "path"]
    )
    labels = pa.array([0], pa.int64()).take(pa.array([0] * rows))
    pq.write_table(pa.table({"image": image, "label": labels}), tmp_path / "train.parquet")
    assert (tmp_path / "train.parquet").stat().st_size < 10**5
    with pytest.raises(DataError, match=r"is to hold 1,000,000 images in \d"):
        open_shards(str(tmp_path), "train")


class Touches:
    """Unpickled with code allowed, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> object:
        return open, (str(self.path), "w")


def test_a_type_of_arrow_is_not_unpickled(tmp_path: Path) -> None:
    bait = tmp_path / "bait"
    content = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Touches(bait)),
    }
    fields = [pa.field("image", pa.binary(), metadata=content), pa.field("label", pa.int64())]
    table = pa.table([[b"x"], [0]], schema=pa.schema(fields))
    (tmp_path / "set").mkdir()
    pq.write_table(table, tmp_path / "set" / "train.parquet")
    with (
        pa.OSFile(str(tmp_path / "set" / "train.arrow"), "wb") as file,
        pa.ipc.new_stream(file, table.schema) as out,
    ):
        out.write_table(table)
    for name in ("train.parquet", "train.arrow"):
        shards = open_shards(str(tmp_path / "set" / name), "train")
        assert next(iter(shards.read(0, 0)))["image"].data == b"x"
    assert not bait.exists()


def test_labels_are_read_within_limits(tmp_path: Path) -> None:
    large = tmp_path / "large.txt"
    large.write_bytes(b"")
    os.truncate(large, 10**10)
    with pytest.raises(DataError, match="is the limit of its kind"):
        read_val_labels(large, ["n0"])
    with pytest.raises(DataError, match="not a regular file"):
        read_val_labels(Path("/dev/zero"), ["n0"])
    part = zlib.compress(bytes(300 * 10**6), 1)
    (tmp_path / "meta.mat").write_bytes(
        b"MATLAB 5.0".ljust(124) + b"\x00\x01IM" + struct.pack("<II", 15, len(part)) + part
    )
    (tmp_path / "truth.txt").write_text("1\n")
    with pytest.raises(DataError, match=r"meta\.mat.*unpacks to more than 64,000,000 bytes"):
        read_val_labels(tmp_path / "truth.txt", ["n0"])
    (tmp_path / "real.json").write_text("[" * 10**6)
    with pytest.raises(DataError, match="nested too deeply"):
        RealSource(tmp_path, tmp_path / "real.json")


def test_folders_of_pipes_devices_and_loops_are_read_to_their_end(tmp_path: Path) -> None:
    folder = tmp_path / "train" / "cat"
    folder.mkdir(parents=True)
    (folder / "00.jpg").write_bytes(pictures(1)[0][0])
    os.mkfifo(folder / "01.jpg")
    (folder / "02.jpg").symlink_to("/dev/zero")
    for name in ("one", "two", "three"):  # 3 ** 40 paths
        (folder / name).symlink_to(".")
    for name in ("01.jpg", "02.jpg"):
        with pytest.raises(SampleError, match="not a regular file"):
            read_image(folder / name)
    layout = list_split(tmp_path / "train", "train")
    assert len(layout.paths) == 3
    assert len(layout.unlisted) == 3
