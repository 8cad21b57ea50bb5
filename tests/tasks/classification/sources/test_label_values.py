"""Labels that are plain values of any type, columns and splits that no type or usual name shows."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from configs import compose_train
from shards import add, pictures

from hornet_train.errors import DataError
from hornet_train.tasks.classification.build.open_data import open_data
from hornet_train.tasks.classification.sources import HubSource, LabelledShards, open_shards
from hornet_train.tasks.kit_types import Datasets

IMAGES = [encoded for encoded, _ in pictures()]
PLACES = [0, 1, 2] * 4  # of each row's label among the values
READERS = [HubSource, open_shards]
Reader = Callable[..., Any]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def table(file: Path, **columns: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table({"image": IMAGES, **columns}), file)


def labels(source: Any) -> list[int]:
    shards = isinstance(source, LabelledShards)
    samples = source.read(0, 0) if shards else map(source.read, range(len(source)))
    return [fields["label"] for fields in samples]


def opened(root: Path, streaming: bool = False, **keys: Any) -> Datasets:
    given = [f"data.{key}={value}" for key, value in {"name": root, "streaming": streaming, **keys}.items()]
    return open_data(compose_train(["data=hub", *given]).config.data)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("values", "classes", "places"),
    [
        ([0, 1, 2], ("0", "1", "2"), [0, 1, 2]),
        ([3, 1, 2], ("1", "2", "3"), [2, 0, 1]),
        ([9, -1, 5], ("-1", "5", "9"), [2, 0, 1]),
        ([10.0, 2.0, 1.0], ("1", "2", "10"), [2, 1, 0]),
        ([0.5, 3.0, 1.0], ("0.5", "1", "3"), [0, 2, 1]),
        ([True, False, True], ("False", "True"), [1, 0, 1]),
        (["dog", "Cat", "é"], ("Cat", "dog", "é"), [1, 0, 2]),
        (pd.Categorical(["b", "a", "c"]), ("a", "b", "c"), [1, 0, 2]),
    ],
)
def test_values_are_classes_in_sorted_order(
    tmp_path: Path, read: Reader, values: Sequence[Any], classes: tuple[str, ...], places: list[int]
) -> None:
    chosen = pd.Series(values).take(PLACES).reset_index(drop=True)
    pd.DataFrame({"image": IMAGES, "label": chosen}).to_parquet(tmp_path / "train.parquet")
    source = read(str(tmp_path / "*.parquet"), "train")
    assert source.classes == classes
    assert labels(source) == [places[k] for k in PLACES]
    told = [f"{label} is {name}" for label, name in enumerate(classes)]
    assert all(words in "".join(source.notes) for words in told if places != [0, 1, 2])
    assert bool(source.notes) == (classes != ("0", "1", "2"))


@pytest.mark.parametrize("streaming", [False, True])
def test_held_out_labels_are_those_of_the_same_values(tmp_path: Path, streaming: bool) -> None:
    table(tmp_path / "set/train.parquet", label=[(1, 5, 9)[k] for k in PLACES])
    table(tmp_path / "set/validation.parquet", label=[(9.0, 1.0)[k % 2] for k in range(12)])
    data = opened(tmp_path / "set", streaming)
    assert (data.classes, labels(data.val)) == (("1", "5", "9"), [2, 0] * 6)
    table(tmp_path / "set/validation.parquet", label=[(1, 5, 10)[k] for k in PLACES])
    with pytest.raises(DataError, match=r"1 of the 3 classes of val .* 3 of train \(1, 5, 9\): '10'"):
        opened(tmp_path / "set", streaming)


@pytest.mark.parametrize("read", READERS)
def test_what_is_no_class_is_refused_by_column_and_type(tmp_path: Path, read: Reader) -> None:
    def message(name: str, **columns: Any) -> str:
        table(tmp_path / name / "train.parquet", **columns)
        with pytest.raises(DataError) as caught:
            read(str(tmp_path / name), "train")
        return str(caught.value)

    holes = [1.0, None, float("nan")] * 4
    assert "8 of 12 rows have no value in label" in message("holes", label=holes)
    assert "labels holds lists of int64" in message("several", labels=[[k] for k in PLACES])
    struct = message("struct", label=[{"id": k, "name": str(k)} for k in PLACES])
    assert "data.label_column=label.id or data.label_column=label.name" in struct
    ids = pa.table({"image": IMAGES * 12, "id": range(144)})
    (tmp_path / "ids").mkdir()
    pq.write_table(ids, tmp_path / "ids/train.parquet")
    with pytest.raises(DataError, match=r"no column that looks like labels.* image \(binary\), id \(int64\)"):
        read(str(tmp_path / "ids"), "train")
    with pytest.raises(DataError, match="id has 144 distinct values in 144 rows: too many to be classes"):
        read(str(tmp_path / "ids"), "train", label_column="id")
    pq.write_table(
        pa.table({"images": [[i] for i in IMAGES], "label": PLACES}), tmp_path / "ids/train.parquet"
    )
    with pytest.raises(DataError, match=r"no column with one image a row .*images \(lists of binary\)"):
        read(str(tmp_path / "ids"), "train")


@pytest.mark.parametrize("read", READERS)
def test_columns_that_are_found_and_advice_that_works(tmp_path: Path, read: Reader) -> None:
    more = {"id": range(12), "text": [f"picture {k}" for k in range(12)]}
    animals = [("cat", "dog", "cow")[k] for k in PLACES]
    table(tmp_path / "a/train.parquet", animal=animals, **more)
    assert read(str(tmp_path / "a"), "train").classes == ("cat", "cow", "dog")
    table(tmp_path / "b/train.parquet", Category=animals, place=["x", "y"] * 6, **more)
    assert read(str(tmp_path / "b"), "train").classes == ("cat", "cow", "dog")
    table(tmp_path / "c/train.parquet", animal=animals, place=["x", "y"] * 6, **more)
    with pytest.raises(DataError, match=r"data\.label_column=animal or data\.label_column=place"):
        read(str(tmp_path / "c"), "train")
    assert read(str(tmp_path / "c"), "train", label_column="place").classes == ("x", "y")
    known = ("cat", "cow", "dog")
    assert read(str(tmp_path / "c"), "train", classes=known).label_column == "animal"  # of a checkpoint


def test_splits_under_other_names(tmp_path: Path) -> None:
    def names(*files: str, **keys: Any) -> Datasets:
        place = tmp_path / "-".join(files)
        for file in files:
            table(place / f"{file}.parquet", label=PLACES)
        return opened(place, streaming=True, **keys)

    for files in (("training", "dev"), ("Train", "Valid")):
        assert names(*files).notes == ()
    told = "there is no split 'validation': evaluations are of 'test'"
    assert told in names("train", "test").notes[0]
    assert told in names("some_train", "some_test").notes[0]  # and are not those to train on
    with pytest.raises(DataError, match=r"there are files of: train; data\.val_split=null holds nothing out"):
        names("train")
    assert names("train", val_split="null").val is None
    with pytest.raises(DataError, match=r"data\.train_split=alpha data\.val_split=beta"):
        names("alpha", "beta")
    assert names("alpha", "beta", train_split="alpha", val_split="beta").val is not None
    with pytest.raises(DataError, match=r"data\.val_split=beta: its images are those of data\.train_split"):
        names("alpha", "beta", val_split="beta")


@pytest.mark.parametrize("read", READERS)
def test_numbers_of_any_kind_in_tars(tmp_path: Path, read: Reader) -> None:
    import tarfile

    with tarfile.open(tmp_path / "train.tar", "w") as file:
        for i, (encoded, k) in enumerate(zip(IMAGES, PLACES, strict=True)):
            add(file, f"{i:02}.jpg", encoded)
            add(file, f"{i:02}.cls", str((-1, 7, 3)[k]).encode())
    source = read(str(tmp_path), "train")
    assert source.classes == ("-1", "3", "7")
    assert labels(source) == [(0, 2, 1)[k] for k in PLACES]


@pytest.mark.parametrize("read", READERS)
def test_a_checkpoint_of_numbers_finds_the_column_of_numbers_again(tmp_path: Path, read: Reader) -> None:
    table(tmp_path / "train.parquet", label=["zebra", "ant", "cat"] * 4, label_id=PLACES)
    assert read(str(tmp_path), "train").classes == ("ant", "cat", "zebra")
    again = read(str(tmp_path), "train", classes=("0", "1", "2"))
    assert (again.classes, labels(again)) == (("0", "1", "2"), PLACES)


def test_splits_are_found_however_they_are_spelt(tmp_path: Path) -> None:
    for folder in ("Train", "Val"):
        (tmp_path / folder).mkdir()
        table(tmp_path / folder / "0.parquet", label=PLACES)
    for name in ("Train", "train"):
        assert open_shards(str(tmp_path), name).lengths == (12,)
    other = tmp_path / "other"
    for name in ("Kvasir_a", "Other_b"):
        table(other / f"{name}.parquet", label=PLACES)
    with pytest.raises(DataError, match=r"data\.train_split=Kvasir data\.val_split=Other"):
        open_shards(str(other), "validation")
    assert open_shards(str(other), "Kvasir").lengths == open_shards(str(other), "Other").lengths == (12,)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("values", "said", "absent"),
    [
        ([0, 1, 2], r"are taken as places among the classes, 0 is a, 1 is b, 2 is c$", 0),
        ([0, 2, 0], r"1 of the 3 classes have no held-out image \(b\)", 1),
        ([1, 2, 3], r"are numbers and those of the checkpoint are names: .* '1' for 'a'", 0),
        (["b", "c", "b"], r"1 of the 3 classes have no held-out image \(a\)", 1),
        ([1, 2, 1], None, 0),  # of the three, or counted from 1
    ],
)
def test_numbers_meet_the_names_of_a_checkpoint(
    tmp_path: Path, streaming: bool, values: list[Any], said: str | None, absent: int
) -> None:
    table(tmp_path / "validation.parquet", label=[values[place] for place in PLACES])
    given = ["data=hub", f"data.name={tmp_path}", f"data.streaming={streaming}"]
    config = compose_train(given).config.data
    if said is None:
        with pytest.raises(DataError, match=r"2 of the 2 classes .* are not among .*data\.class_map="):
            open_data(config, training=False, classes=("a", "b", "c"))
        return
    found = open_data(config, training=False, classes=("a", "b", "c"))
    assert any(re.search(said, note) for note in found.notes), found.notes
    assert found.absent == absent
    wanted = {1: 0, 2: 1, 3: 2} if values == [1, 2, 3] else {0: 0, 2: 2, 1: 1, "b": 1, "c": 2}
    assert labels(found.val) == [wanted[values[place]] for place in PLACES]
