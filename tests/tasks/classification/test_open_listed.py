"""Class folders and tables as people have them: which images are trained on, and which are held out."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from configs import compose_train
from pictures import PHOTO

from hornet_train.data.sources.kept_files import keep_files
from hornet_train.data.sources.source import Shards
from hornet_train.errors import ConfigError, DataError, SampleError
from hornet_train.tasks.classification.build.open_data import open_data
from hornet_train.tasks.kit_types import Datasets

TREE = tuple(f"{name}/{i}.png" for name in ("cat", "dog", "eel") for i in range(5))


def write(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        PHOTO.resize((4, 4)).save(root / name)
    return root


def split(name: str) -> list[str]:
    return [f"{name}/{one}" for one in TREE]


@cache
def group(name: str) -> Any:
    """A data group as conf/ has it."""
    file = ["data.file=x"] if name == "csv" else []
    return compose_train([f"data={name}", "data.root=x", *file]).config.data


def opened(root: Path, *, data: str = "folder", training: bool = True, classes: tuple[str, ...] | None = None,
           kept: dict[str, Path] | None = None, **settings: object) -> Datasets:  # fmt: skip
    place = {"root": str(root)} if data == "folder" else {"file": f"{root}/labels.csv", "root": None}
    chosen = replace(group(data), **place, **settings)
    return open_data(chosen, training=training, classes=classes, kept=kept)


def names(source: object, root: Path) -> set[str]:
    assert source is not None
    assert not isinstance(source, Shards)
    return {str(Path(source.locate(i)).relative_to(root)) for i in range(len(source))}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["valid", "validation", "Val", "VALID", "dev"])
@pytest.mark.parametrize("training", [True, False])
def test_val_may_be_called_otherwise(tmp_path: Path, name: str, training: bool) -> None:
    write(tmp_path, *split("train"), *split(name), *split("test"))
    found = opened(tmp_path, training=training)
    assert names(found.val, tmp_path) == set(split(name))
    assert [note for note in found.notes if f"{name}/ is taken" in note]
    assert not training or opened(tmp_path, val=False).notes == ()


def test_a_test_set_is_the_last_resort_and_that_is_said(tmp_path: Path) -> None:
    write(tmp_path, *split("Training"), *split("test"))
    found = opened(tmp_path)
    assert (names(found.train, tmp_path), names(found.val, tmp_path)) == (
        {*split("Training")},
        {*split("test")},
    )
    assert any("best checkpoint is then chosen by the test set" in note for note in found.notes)
    share = opened(tmp_path, val_share=0.2)
    assert names(share.train, tmp_path) | names(share.val, tmp_path) == set(split("Training"))
    with pytest.raises(DataError, match=r"has no folder nowhere/; there are: Training, test"):
        opened(tmp_path, val_dir="nowhere")


def test_unlabelled_images_of_a_test_folder_are_none_held_out(tmp_path: Path) -> None:
    write(tmp_path, *split("train"), "test/unknown/1.png", "test/2.png")
    with pytest.raises(DataError) as error:
        opened(tmp_path)
    for way in ("there are: test, train", "data.val_share=0.2", "data.val_dir=<folder>", "data.val=false"):
        assert way in str(error.value)
    assert opened(tmp_path, val=False).val is None


@pytest.mark.parametrize("direct", [False, True])
def test_a_share_is_held_out_and_evaluated_again(tmp_path: Path, direct: bool) -> None:
    every = set(TREE if direct else split("train"))
    write(tmp_path, *every)
    with pytest.raises(DataError, match=r"data\.val_share=0\.2"):
        opened(tmp_path)
    found = opened(tmp_path, val_share=0.4)
    train, val = names(found.train, tmp_path), names(found.val, tmp_path)
    assert (train | val, train & val, len(val)) == (every, set(), 6)
    assert sum("/dog/" in f"/{name}" for name in val) == 2
    for classes in (None, found.classes):
        again = opened(tmp_path, val_share=0.4, training=False, classes=classes)
        assert again.val is not None
        assert found.val is not None
        assert again.val.fingerprint == found.val.fingerprint
    resumed = opened(tmp_path, val_share=0.4, class_order="natural", classes=found.classes)
    assert resumed.identity() == found.identity()


def test_files_that_have_gone_do_not_move_others_across_the_split(tmp_path: Path) -> None:
    root, kept = tmp_path / "photos", tmp_path / "files/train.gz"
    write(root, *split("train"))
    before = opened(root, val_share=0.4)
    keep_files(before.files["train"].tree, kept)
    gone = min(names(before.val, root))
    (root / gone).unlink()
    again = opened(root, val_share=0.4, kept={"train": kept})
    assert again.identity() == before.identity()
    evaluated = opened(root, val_share=0.4, training=False, kept={"train": kept})
    assert names(evaluated.val, root) == names(before.val, root) - {gone}


def test_a_share_beside_val_is_refused_and_does_not_hide_it_later(tmp_path: Path) -> None:
    write(tmp_path, *split("train"), *split("val"))
    with pytest.raises(ConfigError, match=r"data\.val_share=0\.2, but .*/val is there"):
        opened(tmp_path, val_share=0.2)
    assert names(opened(tmp_path, val_share=0.2, training=False).val, tmp_path) == set(split("val"))


def test_the_training_folder_as_root(tmp_path: Path) -> None:
    write(tmp_path, *split("train"), *split("valid"))
    found = opened(tmp_path / "train")
    assert (names(found.train, tmp_path), names(found.val, tmp_path)) == (
        {*split("train")},
        {*split("valid")},
    )
    assert f"taken as data.root={tmp_path}" in found.notes[0]
    assert names(opened(tmp_path / "train", training=False).val, tmp_path) == set(split("valid"))
    of_val = opened(
        tmp_path / "valid", training=False
    )  # class folders themselves: what is there is evaluated
    assert names(of_val.val, tmp_path) == set(split("valid"))
    with pytest.raises(DataError, match=r"has no folder train/; there are: cat, dog, eel"):
        opened(write(tmp_path / "deep", "cat/x/1.png", "dog/x/1.png", "eel/x/1.png"))


def test_litter_is_no_class_and_no_image(tmp_path: Path) -> None:
    litter = ("@eaDir", "__MACOSX", "#recycle", "#snapshot", "$RECYCLE.BIN", "System Volume Information",
              "lost+found", ".ipynb_checkpoints", "@Recycle")  # fmt: skip
    kept = {*split("train"), *split("val")}
    places = ("", "train/", "val/", "train/cat/", "train/cat/deep/", "val/dog/")
    write(tmp_path, *kept, *(f"{place}{one}/1.png" for one in litter for place in places))
    (tmp_path / "train/cat/._0.png").write_bytes(b"")
    (tmp_path / "train/cat/Thumbs.db").write_bytes(b"")
    found = opened(tmp_path)
    assert found.classes == ("cat", "dog", "eel")
    assert names(found.train, tmp_path) | names(found.val, tmp_path) == kept
    write(tmp_path, "train/fox/@eaDir/1.png")
    with pytest.raises(DataError, match=r"1 class folder \(fox\) without an image"):
        opened(tmp_path)


def test_classes_that_are_numbers(tmp_path: Path) -> None:
    write(tmp_path, *(f"{one}/{name}/1.png" for one in ("train", "val") for name in ("1", "2", "10")))
    as_text = opened(tmp_path)
    assert as_text.classes == ("1", "10", "2")
    assert any("data.class_order=natural takes 1, 2, 10" in note for note in as_text.notes)
    natural = opened(tmp_path, class_order="natural")
    assert natural.classes == ("1", "2", "10")
    for found in (as_text, natural):
        for source in (found.train, found.val):
            assert source is not None
            assert not isinstance(source, Shards)
            for i in range(3):
                assert f"/{found.classes[source.read(i)['label']]}/" in source.locate(i)
    assert opened(tmp_path, class_order="natural", training=False).classes == ("1", "2", "10")
    kept = opened(tmp_path, class_order="natural", classes=as_text.classes)  # a run keeps its order
    assert kept.identity() == as_text.identity()
    assert kept.notes == ()
    renames = tmp_path / "map.csv"
    renames.write_text("1,3\n")
    assert opened(tmp_path, class_order="natural", class_map=str(renames)).classes == (
        "2",
        "3",
        "10",
    )
    with pytest.raises(ConfigError, match=r"data\.class_order=natural"):
        compose_train(["data=imagenet", f"data.root={tmp_path}", "data.class_order=natural"])


def table(root: Path, parts: tuple[str, ...], *, column: bool = True) -> Path:
    write(root, *(f"{part}/{one}" for part in parts for one in TREE))
    lines = [f"{part}/{one},{one.split('/')[0]}" + f",{part}" * column for part in parts for one in TREE]
    (root / "labels.csv").write_text("\n".join(["file,label" + ",split" * column, *lines]))
    return root


@pytest.mark.parametrize("training", [True, False])
def test_a_table_says_what_is_held_out(tmp_path: Path, training: bool) -> None:
    found = opened(table(tmp_path, ("train", "valid", "test")), data="csv", training=training)
    assert found.classes == ("cat", "dog", "eel")
    assert names(found.val, tmp_path) == set(split("valid"))
    if training:
        assert names(found.train, tmp_path) == set(split("train"))
        with pytest.raises(ConfigError, match="of the split val"):
            opened(tmp_path, val_share=0.2, data="csv")
        assert opened(tmp_path, val=False, data="csv").val is None


def test_a_few_files_of_a_table_may_be_missing(tmp_path: Path) -> None:
    """As many as may be unreadable: they keep their places."""
    table(tmp_path, ("train", "val"))
    before = opened(tmp_path, data="csv")
    assert not isinstance(before.train, Shards | None)
    gone = Path(before.train.locate(1))
    gone.unlink()
    found = opened(tmp_path, data="csv")
    assert found.identity() == before.identity()
    (note,) = found.notes
    assert f"({gone.relative_to(tmp_path)}): as if unreadable" in note
    assert not isinstance(found.train, Shards | None)
    with pytest.raises(SampleError, match=gone.name):
        found.train.read(1)
    with pytest.raises(DataError, match=r"1 of \d+ files are not in"):
        opened(tmp_path, data="csv", max_bad=0.0)


def test_a_table_without_held_out_lines(tmp_path: Path) -> None:
    table(tmp_path, ("train",), column=False)
    with pytest.raises(DataError, match=r"no column split.*data.val_share=0.2.*data.val=false"):
        opened(tmp_path, data="csv")
    found = opened(tmp_path, val_share=0.2, data="csv")
    again = opened(tmp_path, val_share=0.2, data="csv", training=False, classes=found.classes)
    assert found.val is not None
    assert again.val is not None
    assert (again.val.fingerprint, len(names(again.val, tmp_path))) == (found.val.fingerprint, 3)
    assert names(opened(tmp_path, data="csv", training=False).val, tmp_path) == set(split("train"))
    table(tmp_path, ("train", "test"))
    found = opened(tmp_path, data="csv")
    assert names(found.val, tmp_path) == set(split("test"))
    assert any("chosen by the test set" in note for note in found.notes)


def test_a_share_of_renamed_classes_keeps_its_labels(tmp_path: Path) -> None:
    table(tmp_path, ("train",), column=False)
    (tmp_path / "map.csv").write_text("cat,pet\ndog,pet\n")
    found = opened(tmp_path, val_share=0.4, class_map=f"{tmp_path}/map.csv", data="csv")
    assert (found.classes, found.absent) == (("eel", "pet"), 0)
    for source, count in ((found.train, 9), (found.val, 6)):
        assert source is not None
        assert not isinstance(source, Shards)
        assert len(source) == count
        for i in range(count):
            assert source.read(i)["label"] == ("/eel/" not in source.locate(i))


def test_numbers_in_a_table_are_in_the_order_of_their_values(tmp_path: Path) -> None:
    write(tmp_path, "0.png", "1.png", "2.png", "3.png")
    (tmp_path / "labels.csv").write_text("0.png,10\n1.png,2\n2.png,-1\n3.png,2\n")
    assert opened(tmp_path, val=False, data="csv").classes == ("-1", "2", "10")
