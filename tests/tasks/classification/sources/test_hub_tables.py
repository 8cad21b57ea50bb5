"""Hugging Face data sets: the same samples in every format, and an answer to all that can be missing."""

from __future__ import annotations

import io
import json
import logging
import multiprocessing
import pickle
import tarfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from huggingface_hub import errors
from huggingface_hub.utils import httpx
from labelled import labelled
from PIL import Image
from shards import CLASSES, add, dataset, pictures, write_index, write_parquet, write_tar

from hornet_train.data.sources import hub
from hornet_train.errors import DataError, SampleError
from hornet_train.images.decode import decode
from hornet_train.tasks.classification.sources import HubSource, open_shards

SAMPLES = pictures()


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, and no cache but one of this test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def as_parquet(folder: Path) -> str:
    write_parquet(folder, "train", SAMPLES)
    return str(folder)


def as_pattern(folder: Path) -> str:
    write_parquet(folder / "deep" / "train", "part", SAMPLES)
    write_parquet(folder / "deep" / "val", "part", SAMPLES[:3])
    return str(folder / "**" / "*.parquet")


def as_saved(folder: Path) -> str:
    datasets.DatasetDict(train=dataset(SAMPLES)).save_to_disk(str(folder), num_shards={"train": 3})
    return str(folder)


def as_arrow(folder: Path) -> str:
    datasets.DatasetDict(train=dataset(SAMPLES)).save_to_disk(str(folder / "saved"))
    file = next((folder / "saved" / "train").glob("*.arrow"))
    file.rename(folder / "train.arrow")
    return str(folder / "train.arrow")


def as_tars(folder: Path) -> str:
    write_tar(folder / "train-0.tar", SAMPLES[:7])
    write_tar(folder / "train-1.tar", SAMPLES[7:], first=7)
    write_index(folder, "train", {"train-0.tar": 7, "train-1.tar": 5})
    return str(folder)


FORMATS = [as_parquet, as_pattern, as_saved, as_arrow, as_tars]


@pytest.mark.parametrize("write", FORMATS)
def test_every_format_gives_the_same_samples(tmp_path: Path, write: Callable[[Path], str]) -> None:
    source = HubSource(write(tmp_path / "set"), "train")
    assert source.classes == CLASSES
    assert len(source) == len(SAMPLES)
    copy = pickle.loads(pickle.dumps(source))
    assert len(pickle.dumps(source)) < 20_000  # the pictures stay where they are
    for i, (encoded, label) in enumerate(SAMPLES):
        for one in (source, copy):
            image, found = labelled(one, i)
            assert torch.equal(image, decode(encoded))
            assert found == label
        assert f"split train, row {i}" in source.locate(i)


def test_the_fingerprint_is_of_the_samples_and_not_of_where_they_lie(tmp_path: Path) -> None:
    prints = {
        HubSource(write(tmp_path / write.__name__), "train").fingerprint for write in (as_parquet, as_tars)
    }
    assert len(prints) == 1
    swapped = [SAMPLES[11], *SAMPLES[1:11], SAMPLES[0]]  # two of one class
    assert swapped[0][1] == SAMPLES[0][1]
    write_parquet(tmp_path / "swapped", "train", swapped)
    assert HubSource(str(tmp_path / "swapped"), "train").fingerprint not in prints


def several_types(folder: Path) -> list[tuple[bytes, int]]:
    """Tars of others, of JPEG, PNG, TIFF and WebP in turn, one label in JSON, captions beside some."""
    samples = []
    folder.mkdir()
    for k in range(2):
        with tarfile.open(folder / f"train-{k}.tar", "w") as tar:
            for i, (encoded, label) in enumerate(SAMPLES[6 * k : 6 * k + 6]):
                suffix = ("jpg", "png", "tif", "webp", "JPEG", "jpg")[i]
                if i in (1, 2, 3):
                    changed = io.BytesIO()
                    Image.open(io.BytesIO(encoded)).save(changed, {"tif": "tiff"}.get(suffix, suffix))
                    encoded = changed.getvalue()
                add(tar, f"n/{k}{i}.{suffix}", encoded)
                if i == 5:
                    add(tar, f"n/{k}{i}.json", json.dumps({"label": label}).encode())
                else:
                    add(tar, f"n/{k}{i}.cls", str(label).encode())
                if i % 2:
                    add(tar, f"n/{k}{i}.txt", b"a caption")
                samples.append((encoded, label))
    return samples


def test_tars_of_several_types_of_images_are_read_in_any_order_as_in_a_stream(tmp_path: Path) -> None:
    samples = several_types(tmp_path / "set")
    source = HubSource(str(tmp_path / "set"), "train")
    shards = open_shards(str(tmp_path / "set"), "train")
    streamed = [fields for k in range(2) for fields in shards.read(k, 0)]
    assert (source.classes, len(source)) == (shards.classes, len(samples))
    for i in reversed(range(len(samples))):
        fields = source.read(i)
        assert (fields["image"].data, fields["label"]) == samples[i]
        assert (streamed[i]["image"].data, streamed[i]["label"]) == samples[i]
        assert labelled(source, i)[0].shape == decode(samples[i][0]).shape
    assert f"split train, row 7 ({tmp_path}/set/train-1.tar: n/11.png)" in source.locate(7)
    with pytest.raises(DataError, match=r"same types.*; tars on this machine may hold several types of"):
        HubSource(str(tmp_path / "set"), "train", image_column="jpg")


def test_a_tar_that_changes_while_it_is_read_costs_its_samples(tmp_path: Path) -> None:
    source = HubSource(as_tars(tmp_path), "train")
    cut = tmp_path / "train-0.tar"
    cut.write_bytes(cut.read_bytes()[:600])
    with pytest.raises(SampleError, match=r"row 6 \(.*train-0\.tar: .*\): its tar is shorter than it was"):
        source.read(6)
    cut.unlink()
    with pytest.raises(SampleError, match=r"row 6 .*: cannot be read \(No such file"):
        source.read(6)
    assert source.read(7)["label"] == SAMPLES[7][1]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_what_their_parent_reads(tmp_path: Path, method: str) -> None:
    source = HubSource(as_parquet(tmp_path / "set"), "train")
    rows = range(len(source))
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as worker:
        assert list(worker.map(source.locate, rows)) == [source.locate(i) for i in rows]
        assert list(worker.map(source.read, rows)) == [source.read(i) for i in rows]


def test_validation_goes_by_several_names_and_takes_the_classes_of_train(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set", "train", SAMPLES, named=False)
    write_parquet(tmp_path / "set", "val", [SAMPLES[0], SAMPLES[1]], named=False)
    train = HubSource(str(tmp_path / "set"), "train")
    val = HubSource(str(tmp_path / "set"), "validation", classes=train.classes)
    assert (train.classes, len(val), val.split) == (("0", "1", "2"), 2, "val")
    assert val.classes == train.classes
    with pytest.raises(DataError, match=r"no files of split 'test' .*; there are files of: train, val"):
        HubSource(str(tmp_path / "set"), "test")


def test_labels_that_cannot_be_classes_are_refused(tmp_path: Path) -> None:
    def source(name: str, labels: list[int], classes: tuple[str, ...] | None = None) -> HubSource:
        samples = [(encoded, label) for (encoded, _), label in zip(SAMPLES, labels, strict=False)]
        write_parquet(tmp_path / name, "train", samples, named=False)
        return HubSource(str(tmp_path / name), "train", classes=classes)

    with pytest.raises(DataError, match="all labels are -1: they are withheld"):
        source("withheld", [-1, -1])
    with pytest.raises(DataError, match="labelled 2, but there are 2 classes"):
        source("beyond", [0, 1, 2], ("a", "b"))


def test_an_image_that_is_a_path_is_read_from_there_and_a_missing_one_is_a_bad_sample(tmp_path: Path) -> None:
    (tmp_path / "picture.jpg").write_bytes(SAMPLES[0][0])
    images = [{"bytes": None, "path": str(tmp_path / "picture.jpg")}, None, {"bytes": b"xy", "path": None}]
    pq.write_table(pa.table({"picture": images, "y": [0, 1, 0]}), tmp_path / "train.parquet")
    source = HubSource(str(tmp_path), "train")
    assert torch.equal(labelled(source, 0)[0], decode(SAMPLES[0][0]))
    assert source.locate(0).endswith("row 0 (" + str(tmp_path / "picture.jpg") + ")")
    with pytest.raises(SampleError, match=r"row 1: the row holds no image"):
        source.read(1)
    with pytest.raises(SampleError, match=r"row 2: cannot be decoded"):
        labelled(source, 2)


def test_columns_are_chosen_by_type_or_by_name(tmp_path: Path) -> None:
    rows = dataset(SAMPLES)
    rows = rows.add_column("fine", [1 - k % 2 for _, k in SAMPLES]).add_column("coarse", [0, 1] * 6)
    rows.to_parquet(tmp_path / "a" / "train.parquet")
    place = str(tmp_path / "a")
    assert HubSource(place, "train").classes == CLASSES  # of all integers, the class labels
    assert HubSource(place, "train", label_column="coarse").classes == ("0", "1")
    with pytest.raises(DataError, match=r"data\.label_column=corse: .* did you mean 'coarse'"):
        HubSource(place, "train", label_column="corse")
    with pytest.raises(DataError, match=r"data\.label_column=image: .* not class labels or integers"):
        HubSource(place, "train", label_column="image")
    rows.remove_columns("label").to_parquet(tmp_path / "b" / "train.parquet")
    expected = r"2 columns that may be the label: fine, coarse; choose one, as in data\.label_column=fine"
    with pytest.raises(DataError, match=expected):
        HubSource(str(tmp_path / "b"), "train")


def test_plain_parquet_of_other_tools(tmp_path: Path) -> None:
    table = pa.table({"jpg": [encoded for encoded, _ in SAMPLES], "class": [label for _, label in SAMPLES]})
    pq.write_table(table, tmp_path / "all.parquet")
    source = HubSource(str(tmp_path), "train")  # no file tells a split
    assert torch.equal(labelled(source, 5)[0], decode(SAMPLES[5][0]))
    with pytest.raises(DataError, match="no files of split 'validation'"):
        HubSource(str(tmp_path), "validation")


def test_files_behind_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)  # forbids all URLs, those of memory too
    as_parquet(tmp_path / "set")
    near = HubSource(str(tmp_path / "set"), "train")
    filesystem = fsspec.filesystem("memory")
    filesystem.put(str(tmp_path / "set"), "/far", recursive=True)
    try:
        for url in ("memory://far", "memory://far/train-*.parquet"):
            assert HubSource(url, "train").fingerprint == near.fingerprint
        assert len(HubSource("memory://far/train-00001-of-00002.parquet", "train")) == 6
        with pytest.raises(DataError, match=r"data\.name=memory://far has no files of split 'validation'"):
            HubSource("memory://far", "validation")
    finally:
        filesystem.rm("/far", recursive=True)


def test_an_error_is_reported_once_and_not_by_a_log_too(tmp_path: Path) -> None:
    as_parquet(tmp_path)
    cut = tmp_path / "train-00001-of-00002.parquet"
    cut.write_bytes(cut.read_bytes()[:-100])
    message: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = message.append  # type: ignore[method-assign]
    logging.getLogger("datasets").addHandler(handler)
    try:
        with pytest.raises(DataError, match="cannot be prepared"):
            HubSource(str(tmp_path), "train")
    finally:
        logging.getLogger("datasets").removeHandler(handler)
    assert message == []


def test_a_bug_of_ours_is_not_reported_as_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def buggy(*_arguments: Any) -> None:
        raise ValueError("ours")

    as_parquet(tmp_path)
    monkeypatch.setattr(hub, "check_split", buggy)
    with pytest.raises(ValueError, match=r"^ours$"):
        HubSource(str(tmp_path), "train")


def test_files_that_do_not_fit_are_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.name=.*nowhere does not exist"):
        HubSource(str(tmp_path / "nowhere"), "train")
    with pytest.raises(DataError, match=r"has no \.parquet, \.arrow, \.tar files; data=folder"):
        HubSource(str(tmp_path), "train")
    as_parquet(tmp_path / "set")
    (tmp_path / "set" / "train-2.parquet").write_bytes(b"PAR1 cut off")
    with pytest.raises(DataError, match=r"cannot be prepared .*is a file damaged") as caught:
        HubSource(str(tmp_path / "set"), "train")
    assert len(str(caught.value).splitlines()) <= 3
    write_tar(tmp_path / "set" / "train-3.tar", SAMPLES)
    with pytest.raises(DataError, match=r"its files are \.parquet, \.tar; one kind"):
        HubSource(str(tmp_path / "set"), "train")


def _http(kind: type[errors.HfHubHTTPError], status: int) -> Exception:
    request = httpx.Request("GET", "https://huggingface.co/api/datasets/a/b")
    return kind("no", response=httpx.Response(status, request=request))


def _after(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


ANSWERS = [
    (
        _http(errors.GatedRepoError, 403),
        r"gated: accept its terms at https://huggingface\.co/datasets/a/b, then",
    ),
    (
        _after(datasets.exceptions.DatasetNotFoundError("gone"), _http(errors.GatedRepoError, 401)),
        r"`hf auth login` or set HF_TOKEN",
    ),
    (
        datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' is a gated dataset on the Hub."),
        r"is gated: accept",
    ),
    (
        datasets.exceptions.DatasetNotFoundError("Dataset 'a/b' doesn't exist"),
        r"no such data set, or it is private",
    ),
    (
        datasets.exceptions.DatasetNotFoundError("Revision 'v9' doesn't exist for dataset 'a/b' on the Hub."),
        r"no revision data\.revision=v9",
    ),
    (
        _after(datasets.exceptions.DatasetNotFoundError("x"), _http(errors.RevisionNotFoundError, 404)),
        r"no revision data\.revision=v9",
    ),
    (errors.OfflineModeIsEnabled("offline"), r"forbids to fetch it: unset it"),
    (ConnectionError("Couldn't reach 'a/b' on the Hub (ConnectError)"), r"cannot be reached .*try again"),
    (httpx.ConnectError("Name or service not known"), r"cannot be reached .*ConnectError: Name or service"),
    (_http(errors.HfHubHTTPError, 401), r"refuses access .*hf auth login"),
    (_http(errors.HfHubHTTPError, 503), r"cannot be reached or does not answer"),
    (OSError(28, "No space left on device"), r"No space left on device"),
    (ValueError("BuilderConfig 'c' not found. Available: ['d']"), r"'c' not found\. Available: \['d'\]"),
    (datasets.exceptions.DataFilesNotFoundError("none"), r"holds no files that are read"),
    (
        RuntimeError("Dataset scripts are no longer supported, but found b.py"),
        r"scripts are no longer supported",
    ),
]


@pytest.mark.parametrize(("error", "message"), ANSWERS)
def test_what_the_hub_refuses_is_reported_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def refuse(*_arguments: Any, **_more: Any) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset_builder", refuse)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    with pytest.raises(DataError, match=message) as caught:
        HubSource("a/b", "train", config_name="c", revision="v9")
    assert str(caught.value).startswith("data.name=a/b")
    assert len(str(caught.value).splitlines()) <= 3


def test_a_full_disk_is_reported_as_such_while_offline_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: Any, **_more: Any) -> None:
        raise OSError(28, "No space left on device", "/cache")

    monkeypatch.setattr(datasets, "load_dataset_builder", refuse)
    with pytest.raises(DataError, match=r": No space left on device \(/cache\)$"):
        HubSource(as_parquet(tmp_path), "train")


def test_a_data_set_of_the_hub_that_is_not_in_the_cache_while_offline() -> None:
    with pytest.raises(
        DataError, match="is not in the local cache, and HF_HUB_OFFLINE or HF_DATASETS_OFFLINE"
    ):
        HubSource("some-owner/some-set", "train")


def test_a_split_that_a_data_set_lacks_is_reported_before_it_is_fetched(tmp_path: Path) -> None:
    write_parquet(tmp_path / "set", "train", SAMPLES)
    write_parquet(tmp_path / "set", "test", SAMPLES[:3])
    builder = datasets.load_dataset_builder(str(tmp_path / "set"))

    def fetch() -> None:
        raise AssertionError("nothing is fetched for a split that is not there")

    builder.download_and_prepare = fetch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "load_dataset_builder", lambda *_arguments, **_more: builder)
        expected = r"no split 'other' but: train, test; data\.val_split=test holds that out"
        with pytest.raises(DataError, match=expected):
            HubSource("a/b", "other")
