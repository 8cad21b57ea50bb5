"""Shards: the same samples in every format, from any sample on, without what lies before."""

from __future__ import annotations

import pickle
import tarfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import constants
from shards import CLASSES, add, dataset, pictures, write_index, write_parquet, write_tar

from hornet_train.data.loader import LoaderSettings
from hornet_train.data.sources import tar_index
from hornet_train.data.sources.source import Fields
from hornet_train.data.sources.split_files import find_files
from hornet_train.data.streaming import StreamEvalLoader
from hornet_train.errors import DataError
from hornet_train.tasks.classification.samples import EvalSamples
from hornet_train.tasks.classification.sources import HubSource, LabelledShards, open_shards
from hornet_train.tasks.classification.transforms import EvalTransform

SAMPLES = pictures()


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HORNET_CACHE", str(tmp_path / "ours"))


@pytest.fixture
def far() -> Iterator[str]:
    """A file system that is not this machine's."""
    filesystem = fsspec.filesystem("memory")
    yield "memory://set"
    filesystem.rm("/set", recursive=True)


def pairs(samples: Iterable[Fields]) -> list[tuple[bytes, int]]:
    """(image file, label) of each sample."""
    return [(fields["image"].data, fields["label"]) for fields in samples]


def parquet(folder: Path) -> LabelledShards:
    write_parquet(folder, "train", SAMPLES)
    return open_shards(str(folder), "train")


def parquet_numbers(folder: Path) -> LabelledShards:
    write_parquet(folder, "train", SAMPLES, named=False, path=False)
    write_index(folder, "train", {"train-00000-of-00002.parquet": 6, "train-00001-of-00002.parquet": 6})
    return open_shards(str(folder), "train")


def saved(folder: Path) -> LabelledShards:
    datasets.DatasetDict(train=dataset(SAMPLES)).save_to_disk(str(folder), num_shards={"train": 2})
    return open_shards(str(folder), "train")


def arrow_file(folder: Path) -> LabelledShards:
    folder.mkdir()
    table = dataset(SAMPLES).data.table
    for k in range(2):
        with pa.ipc.new_file(folder / f"train-{k}.arrow", table.schema) as file:
            file.write_table(table.slice(6 * k, 6), max_chunksize=4)
    return open_shards(str(folder), "train")


def tar(folder: Path) -> LabelledShards:
    for k in range(2):
        write_tar(folder / f"train-{k}.tar", SAMPLES[6 * k : 6 * k + 6], first=6 * k)
    write_index(folder, "train", {"train-0.tar": 6, "train-1.tar": 6})
    return open_shards(str(folder), "train")


FORMATS = [parquet, parquet_numbers, saved, arrow_file, tar]


@pytest.mark.parametrize("write", FORMATS)
def test_every_format_gives_the_same_samples_from_any_on(
    tmp_path: Path, write: Callable[[Path], LabelledShards]
) -> None:
    shards = pickle.loads(pickle.dumps(write(tmp_path / "set")))
    assert shards.lengths == (6, 6)
    assert shards.classes == CLASSES
    for shard in range(2):
        for start in range(7):
            read = pairs(shards.read(shard, start))
            assert read == SAMPLES[6 * shard + start : 6 * shard + 6]
    assert "train" in next(shards.read(0, 0))["image"].where


def test_what_lies_before_the_start_is_not_read(tmp_path: Path) -> None:
    shards = parquet(tmp_path)
    path = tmp_path / "train-00000-of-00002.parquet"
    group = pq.ParquetFile(path).metadata.row_group(0)
    content = bytearray(path.read_bytes())
    begin = min(group.column(k).file_offset or 4 for k in range(group.num_columns))
    content[begin : begin + group.total_byte_size] = bytes(group.total_byte_size)
    path.write_bytes(content)
    assert [label for _, label in pairs(shards.read(0, 3))] == [label for _, label in SAMPLES[3:6]]
    with pytest.raises(DataError, match=r"00000-of-00002\.parquet: cannot be read") as caught:
        list(shards.read(0, 0))
    assert caught.value.of_one_rank


def test_far_parquet_and_far_tars_with_an_index(tmp_path: Path, far: str) -> None:
    tar(tmp_path / "set")
    write_parquet(tmp_path / "set", "val", SAMPLES)
    filesystem = fsspec.filesystem("memory")
    filesystem.put(str(tmp_path / "set"), "/set", recursive=True)
    near = open_shards(str(tmp_path / "set"), "train")
    tables = open_shards(f"{far}/val-*.parquet", "validation")
    assert [pair for k in range(2) for pair in pairs(tables.read(k, 0))] == SAMPLES
    shards = open_shards(f"{far}/*.tar", "train")
    assert (shards.lengths, shards.classes) == (near.lengths, near.classes)
    for start in (0, 2):
        read = pairs(shards.read(1, start))
        assert read == SAMPLES[6 + start :]
    filesystem.pipe("/set/train-1.tar", filesystem.cat("/set/train-1.tar")[:-512])
    with pytest.raises(DataError, match=r"train-1\.tar has [\d,]+ bytes, not"):
        open_shards(f"{far}/*.tar", "train")
    filesystem.rm("/set/train.index.json")
    with pytest.raises(DataError, match=r"need train\.index\.json beside them"):
        open_shards(f"{far}/*.tar", "train")


def test_urls_that_lead_nowhere_are_reported(far: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    fsspec.filesystem("memory").pipe("/set/train-0.arrow", b"x")
    with pytest.raises(DataError, match=r"data\.name=memory://gone/\*\.tar: there are no such files"):
        open_shards("memory://gone/*.tar", "train")
    with pytest.raises(DataError, match=r"data\.name=hf://datasets/a/b/\*\.tar is not in the local cache"):
        open_shards("hf://datasets/a/b/*.tar", "train")
    with pytest.raises(DataError, match=r"data\.name=nowhere://a/b cannot be read: .*nowhere"):
        open_shards("nowhere://a/b", "train")
    with pytest.raises(DataError, match=r"data\.revision=v1 is of hub .* is a URL: null"):
        open_shards(f"{far}/train-0.parquet", "train", revision="v1")
    with pytest.raises(DataError, match=r"\.arrow, which are streamed from this machine only"):
        open_shards(far, "train")


READERS = [open_shards, HubSource]


def _gone(folder: Path) -> None:
    (folder / "train-1.tar").unlink()


def _one_more(folder: Path) -> None:
    write_tar(folder / "train-2.tar", SAMPLES[:2])


def _shorter(folder: Path) -> None:
    write_tar(folder / "train-1.tar", SAMPLES[6:9], first=6)
    (folder / "train-1.tar").write_bytes((folder / "train-1.tar").read_bytes()[:-512])


def _wrong_index(folder: Path) -> None:
    write_index(folder, "train", {"train-0.tar": 6, "train-1.tar": 35})


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_gone, r"train-1\.tar is missing"),
        (_one_more, r"train-2\.tar is not in it"),
        (_shorter, r"train-1\.tar has [\d,]+ bytes, not [\d,]+"),
        (_wrong_index, r"holds? (6|12) samples, not (35|41)"),
    ],
)
def test_shards_that_do_not_fit_their_index_are_reported(
    tmp_path: Path, read: Callable[..., object], change: Callable[[Path], None], message: str
) -> None:
    tar(tmp_path)
    change(tmp_path)
    with pytest.raises(
        DataError, match=rf"train\.index\.json does not fit the shards beside it: .*{message}"
    ):
        read(str(tmp_path), "train")


def test_an_index_that_shows_other_rows_than_parquet_shards_hold(tmp_path: Path) -> None:
    parquet_numbers(tmp_path)
    write_index(tmp_path, "train", {"train-00000-of-00002.parquet": 6, "train-00001-of-00002.parquet": 5})
    with pytest.raises(DataError, match=r"00001-of-00002\.parquet holds 6 samples, not 5"):
        open_shards(str(tmp_path), "train")
    chosen = str(tmp_path / "train-00000-*.parquet")  # by choice, so the other is not missed
    assert open_shards(chosen, "train").lengths == (6,)
    assert len(HubSource(chosen, "train")) == 6


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("read", READERS)
def test_shards_whose_names_count_one_that_is_missing(
    tmp_path: Path, read: Callable[..., object], first: int
) -> None:
    for k in range(3):
        dataset(SAMPLES).to_parquet(tmp_path / f"train-{k + first:05d}-of-00003-{k}ab{k}.parquet")
    read(str(tmp_path), "train")
    next(tmp_path.glob(f"train-{1 + first:05d}-*")).unlink()
    with pytest.raises(
        DataError, match=rf"1 of the shards .* missing: .*/train-0000{1 + first}-of-00003\.\*;"
    ):
        read(str(tmp_path), "train")


def test_tars_are_scanned_once_and_again_when_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tar(tmp_path / "set")
    scan = tar_index._samples_of
    scanned: list[str] = []
    monkeypatch.setattr(tar_index, "_samples_of", lambda path, rule: scanned.append(path) or scan(path, rule))
    again = open_shards(str(tmp_path / "set"), "train")
    assert (scanned, again.fingerprint) == ([], first.fingerprint)
    write_tar(tmp_path / "set" / "train-1.tar", SAMPLES[6:11], first=6)
    write_index(tmp_path / "set", "train", {"train-0.tar": 6, "train-1.tar": 5})
    changed = open_shards(str(tmp_path / "set"), "train")
    assert len(scanned) == 2
    assert changed.lengths == (6, 5)
    assert changed.fingerprint != first.fingerprint


def test_a_tar_that_is_not_there_is_reported(tmp_path: Path) -> None:
    (tmp_path / "train-0.tar").symlink_to(tmp_path / "away.tar")
    for read in (open_shards, HubSource):
        with pytest.raises(DataError, match=r"train-0\.tar: cannot be read"):
            read(str(tmp_path / "train-*.tar"), "train")


def test_tars_of_several_kinds_of_images_and_labels(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "train.tar", "w") as file:
        add(file, "a.json", b'{"label": 1, "caption": "a cat"}')
        add(file, "a.seg.png", b"png")
        add(file, "notes", b"no suffix")
        add(file, "b.JPEG", b"jpeg")
        add(file, "b.txt", b"a caption")
        add(file, "b.cls", b"0\n")
    shards = open_shards(str(tmp_path), "train")
    assert pairs(shards.read(0, 0)) == [(b"png", 1), (b"jpeg", 0)]
    assert shards.classes == ("0", "1")


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a.cls": b"0"}, r"sample a has no image"),
        ({"a.jpg": b"x", "b.jpg": b"y", "b.cls": b"1"}, r"sample a has no label"),
        ({"a.jpg": b"x", "a.cls": b"cat"}, r"a\.cls: holds b'cat', not a label"),
        ({"a.jpg": b"x", "a.json": b'{"label": "cat"}'}, r"the label 'cat' is not a number"),
        ({"a.jpg": b"x", "a.png": b"y", "a.cls": b"0"}, r"sample a has two images, a\.jpg and a\.png"),
        ({"a.jpg": b"x", "a.json": b"[]"}, r"sample a has no label"),
    ],
)
def test_samples_that_are_not_whole_are_reported(
    tmp_path: Path, read: Callable[..., object], members: dict[str, bytes], message: str
) -> None:
    with tarfile.open(tmp_path / "train.tar", "w") as file:
        for name, content in members.items():
            add(file, name, content)
    with pytest.raises(DataError, match=message):
        read(str(tmp_path), "train")


def test_labels_within_json_are_read_from_tars_and_tables(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "train.tar", "w") as file:
        for i, (encoded, label) in enumerate(SAMPLES):
            add(file, f"{i}.jpg", encoded)
            add(file, f"{i}.json", f'{{"label": {label}, "width": 9}}'.encode())
    source = HubSource(str(tmp_path), "train", label_column="json.label")
    assert [source.read(i)["label"] for i in range(12)] == [label for _, label in SAMPLES]
    rows = [{"label": label, "width": 9} for _, label in SAMPLES]
    table = pa.table({"json": rows, "jpg": [encoded for encoded, _ in SAMPLES]})
    pq.write_table(table, tmp_path / "train.parquet")
    shards = open_shards(str(tmp_path / "*.parquet"), "train", label_column="json.label")
    assert pairs(shards.read(0, 0)) == SAMPLES


def test_rows_without_an_image(tmp_path: Path) -> None:
    images = [{"bytes": b"x", "path": "a.jpg"}, None, {"bytes": None, "path": "b.jpg"}]
    pq.write_table(pa.table({"image": images, "label": [0, 1, 0]}), tmp_path / "train.parquet")
    samples = open_shards(str(tmp_path), "train").read(0, 0)
    assert [next(samples)["image"].data, next(samples)["image"].data] == [
        b"x",
        b"",
    ]  # the second is bad when it is decoded
    with pytest.raises(DataError, match=r"row 2: holds the path b\.jpg .*data\.streaming=false") as caught:
        next(samples)
    assert caught.value.of_one_rank


def test_damaged_shards_are_reported(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(DataError, match=r"train\.parquet: cannot be read"):
        open_shards(str(tmp_path), "train")


@pytest.mark.parametrize("read", READERS)
def test_tars_that_are_cut_off_or_damaged_are_reported(tmp_path: Path, read: Callable[..., object]) -> None:
    file = write_tar(tmp_path / "train.tar", SAMPLES)
    whole = file.read_bytes()
    with tarfile.open(file) as opened:
        image, label, second = list(opened)[6:9]
    for member, kept in ((image, image.size // 2), (label, label.size)):  # the second lacks its padding
        file.write_bytes(whole[: member.offset_data + kept])
        message = rf"train\.tar: ends within {member.name}; it is incomplete: fetch it again"
        with pytest.raises(DataError, match=message):
            read(str(file), "train")
    for cut in (second.offset, second.offset + 100):
        file.write_bytes(whole[:cut])
        with pytest.raises(DataError, match=r"train\.tar: has no end mark; it is incomplete: fetch it again"):
            read(str(file), "train")
    file.write_bytes(whole[: second.offset] + b"\x01" * 512 + whole[second.offset + 512 :])
    with pytest.raises(DataError, match=rf"train\.tar: is damaged at byte {second.offset:,}: fetch it again"):
        read(str(file), "train")


def test_shards_unlike_the_first_are_reported(tmp_path: Path) -> None:
    dataset(SAMPLES).to_parquet(tmp_path / "train-0.parquet")
    dataset(SAMPLES).rename_column("label", "y").to_parquet(tmp_path / "train-1.parquet")
    with pytest.raises(DataError, match=r"train-1\.parquet has no column label, unlike .*train-0\.parquet"):
        open_shards(str(tmp_path), "train")


def test_a_hub_data_set_is_streamed_from_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_parquet(tmp_path / "set", "train", SAMPLES, named=False)
    features = dataset(SAMPLES).features  # a card tells more than the files
    builder = datasets.load_dataset_builder(str(tmp_path / "set"), features=features)
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *_arguments, **_more: builder)
    shards = open_shards("a/b", "train")
    assert shards.classes == CLASSES
    assert shards.lengths == (6, 6)
    with pytest.raises(DataError, match=r"no split 'validation' but: train; data\.val_split=null"):
        open_shards("a/b", "validation")


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_feed_the_stream_loaders(tmp_path: Path, workers: int) -> None:
    shards = parquet(tmp_path)
    loader = StreamEvalLoader(
        shards, EvalSamples(EvalTransform(32, 1.0, "bicubic")), LoaderSettings(torch.device("cpu"), workers)
    )
    labels = [label for loaded in loader.batches(0, 1, 4) for label in loaded.batch["label"].tolist()]
    assert sorted(labels) == sorted(label for _, label in SAMPLES)


def test_files_of_a_split(tmp_path: Path) -> None:
    def touch(*names: str) -> None:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()

    touch("data/train-00001-of-00002.parquet", "data/train-00000-of-00002.parquet", "data/training.parquet")
    touch("data/validation.parquet", "data/test/0.parquet", "data/README.md")
    chosen = find_files(str(tmp_path), "train").paths
    assert [Path(path).name[:11] for path in chosen] == ["train-00000", "train-00001"]
    assert [Path(p).name for p in find_files(str(tmp_path / "data"), "val").paths] == ["validation.parquet"]
    assert [Path(p).name for p in find_files(f"{tmp_path}/data/*/*", "test").paths] == ["0.parquet"]
    with pytest.raises(DataError, match="there are files of: test"):
        find_files(f"{tmp_path}/data/*/*", "train")
