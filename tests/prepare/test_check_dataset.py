"""`hornet-data check` on intact and broken data sets, as a user runs it."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from prepare_trees import hornet_data, marked, open_when_read, photographs, reads, wait_for

from hornet_train.images.orientation import exif_of
from hornet_train.tasks.classification.layout.label_sets import IMAGENET_1K
from hornet_train.tasks.classification.sources.wnids import timm_list

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def check(command: Command, tmp_path: Path) -> Command:
    """Runs `hornet-data check` on a root; damaged files are listed in tmp_path."""

    def call(root: Path, *flags: str) -> tuple[int, str, str]:
        more = [] if "--no-decode" in flags else ["--csv", f"{tmp_path}/lists/bad.csv", "--workers", "2"]
        return command("hornet-data", "check", str(root), *more, *flags)

    return call


def damaged_files(path: Path) -> dict[str, str]:
    """File name -> reason, from the CSV of damaged files."""
    with path.open(newline="", encoding="utf-8") as file:
        return {Path(row["path"]).name: row["reason"] for row in csv.DictReader(file)}


def test_an_intact_data_set_is_usable(check: Command, tmp_path: Path) -> None:
    code, out, err = check(photographs(tmp_path / "photos"))
    assert (code, err) == (0, "")
    assert "train: 3 classes, 15 images, 5 a class" in out
    assert "classes: train and val have the same" in out
    assert "val: median 120x90 pixels, the shortest side 90, 0 with a side below 32" in out
    assert "train: 15 of 15 images decode, 0 damaged" in out
    assert out.splitlines()[-1] == "usable"
    assert "warning" not in out
    assert list((tmp_path / "lists").iterdir()) == []


def test_every_kind_of_damage_is_listed_and_many_damaged_files_make_it_unusable(
    check: Command, tmp_path: Path
) -> None:
    root = photographs(tmp_path / "photos")
    folder = root / "train" / "astronaut"
    os.truncate(folder / "00.jpg", 1000)
    os.truncate(folder / "01.jpg", 0)
    (folder / "02.jpg").write_text("<html>404</html>")
    (folder / "gone.jpg").symlink_to("nowhere")
    os.mkfifo(folder / "hangs.jpg")
    (root / "train" / "coffee" / "00.png").rename(root / "train" / "coffee" / "00.jpg")
    shutil.copy(root / "train" / "coffee" / "01.png", root / "train" / "coffee" / "copy.png")
    Image.new("RGB", (200, 8)).save(root / "val" / "coffee" / "flat.png")
    code, out, err = check(root, "--timeout", "0.5")
    assert code == 2
    assert "cannot be trained on as it is" in err
    reasons = damaged_files(tmp_path / "lists" / "bad.csv")
    assert {name: reason.split(" (")[0] for name, reason in reasons.items()} == {
        "00.jpg": "cannot be decoded as an image",
        "01.jpg": "the file is empty",
        "02.jpg": "cannot be decoded as an image",
        "gone.jpg": "cannot be read",
        "hangs.jpg": "reading it took more than 0.5 seconds",
    }
    assert "train: 13 of 18 images decode, 5 damaged" in out
    assert "train: 1 PNG called .jpg; decoded all the same" in out
    assert "train: one file has the bytes of another (coffee/copy.png = coffee/01.png)" in out
    assert "the shortest side 8, 1 with a side below 32" in out
    assert out.splitlines()[-1] == ("not usable: 5 of 18 images in train/ are damaged, more than 0.1%")


def test_one_damaged_file_in_a_thousand_is_usable(check: Command, tmp_path: Path) -> None:
    root = tmp_path / "dots"
    for name in ("a", "b"):
        (root / "train" / name).mkdir(parents=True)
        for i in range(500):
            Image.new("L", (1, 1), i % 256).save(root / "train" / name / f"{i}.png")
    (root / "train" / "a" / "7.png").write_bytes(b"")
    code, out, err = check(root)
    assert (code, err) == (0, "")
    assert "no val/" in out
    last = "usable: training replaces the 1 damaged (at most 0.1%, or 2) by other samples"
    assert out.splitlines()[-1] == last
    for name in ("8.png", "9.png"):
        (root / "train" / "a" / name).write_bytes(b"")
    code, out, _ = check(root)
    assert code == 2
    assert "3 of 1,000 images in train/ are damaged, more than 0.1%" in out.splitlines()[-1]


def test_the_list_of_damaged_files_overwrites_no_other_file(check: Command, tmp_path: Path) -> None:
    root = photographs(tmp_path / "photos")
    image = root / "train" / "coffee" / "00.png"
    before = image.read_bytes()
    code, _, err = check(root, "--csv", str(image))
    assert code == 2
    assert "is not a list of damaged files" in err
    assert image.read_bytes() == before
    code, _, err = check(root, "--csv", str(image / "bad.csv"))
    assert code == 2
    assert "cannot be written" in err


def test_damaged_held_out_images_are_a_warning_unless_none_is_left(check: Command, tmp_path: Path) -> None:
    root = photographs(tmp_path / "photos")
    held_out = sorted((root / "val").rglob("*.*"))
    held_out[0].write_bytes(b"")
    code, out, err = check(root)
    assert (code, err) == (0, "")
    assert (
        "warning: 1 of 15 images in val/ is damaged (astronaut/00.jpg): a training names and counts them and "
        "evaluates on the others; hornet-eval stops at the first, unless data.on_bad=skip" in out
    )
    assert out.splitlines()[-1] == "usable: evaluations in a training leave out the 1 damaged in val/"
    assert [*damaged_files(tmp_path / "lists" / "bad.csv")] == ["00.jpg"]
    (root / "train/coffee/00.png").write_bytes(b"")  # which a training replaces
    assert check(root)[1].splitlines()[-1] == (
        "usable: training replaces the 1 damaged (at most 0.1%, or 2) by other samples; evaluations in a "
        "training leave out the 1 damaged in val/"
    )
    assert check(root / "train")[0] == check(root / "val")[0] == 0  # a split alone
    for file in held_out:
        file.write_bytes(b"")
    code, out, err = check(root)
    assert (code, "cannot be trained on as it is" in err) == (2, True)
    assert out.splitlines()[-1].startswith(
        "not usable: 15 of 15 images in val/ are damaged (astronaut/00.jpg, "
    )
    assert "a training ends with an error at its first evaluation" in out.splitlines()[-1]
    photographs(root, splits=("test",))
    assert check(root, "--splits", "train,test,val")[0] == 0  # these are not those of a training
    shutil.rmtree(root / "val")
    (root / "train/coffee/00.png").unlink()
    assert check(root)[0] == 0
    assert not (tmp_path / "lists" / "bad.csv").exists(), "the list of an earlier check is left over"


def test_an_evaluation_set_with_damage_is_not_usable_as_it_is(check: Command, tmp_path: Path) -> None:
    root = tmp_path / "imagenet-a"
    for wnid in timm_list("imagenet_a_synsets.txt"):
        (root / wnid).mkdir(parents=True)
        Image.new("L", (1, 1)).save(root / wnid / "1.png")
    (root / wnid / "1.png").write_bytes(b"")
    code, out, err = check(root)
    assert (code, "cannot be evaluated on as it is" in err) == (2, True)
    assert "not usable: 1 of 200 images in imagenet-a/ is damaged" in out.splitlines()[-1]
    assert "hornet-eval stops at the first" in out.splitlines()[-1]


def test_a_killed_worker_does_not_end_the_check(tmp_path: Path) -> None:
    root = photographs(tmp_path / "photos", splits=("train",))
    fifo = root / "train" / "chelsea" / "02b.webp"
    os.mkfifo(fifo)
    mark = str(tmp_path)
    process = hornet_data("check", str(root), "--workers", "2", "--csv", str(tmp_path / "bad.csv"), mark=mark)
    handle = open_when_read(fifo)
    # the reader's call to open may not have returned when ours has
    wait_for(lambda: any(reads(pid, fifo) for pid in marked(mark)))
    (reader,) = (pid for pid in marked(mark) if reads(pid, fifo))
    os.kill(reader, signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    os.close(handle)
    assert process.returncode == 0, err  # one may be
    assert damaged_files(tmp_path / "bad.csv") == {
        "02b.webp": "reading it killed the process (SIGKILL; out of memory?)"
    }
    assert "train: 15 of 16 images decode, 1 damaged" in out  # the other files of its batch are decoded too
    wait_for(lambda: not marked(mark))


def test_splits_with_different_and_nearly_equal_class_names(check: Command, tmp_path: Path) -> None:
    root = photographs(tmp_path / "photos")
    (root / "val" / "coffee").rename(root / "val" / "Coffee")
    code, out, _ = check(root, "--no-decode")
    assert code == 2
    assert "classes 'Coffee' and 'coffee' differ only in case, spaces, hyphens or underscores" in out
    assert "1 of the 3 classes of val are not among the 3 of train" in out.splitlines()[-1]
    assert "'Coffee' ('coffee'?)" in out.splitlines()[-1]


def test_faults_of_the_folder_layout(check: Command, tmp_path: Path) -> None:
    root = photographs(tmp_path / "photos")
    (root / "train" / "empty").mkdir()
    (root / "train" / "notes.txt").touch()
    (root / "train" / "coffee" / ".hidden.png").touch()
    shutil.copytree(root / "val" / "coffee", root / "train" / "coffee" / "deep")
    shutil.copy(root / "val" / "coffee" / "00.png", root / "train" / "loose.png")
    code, out, _ = check(root, "--no-decode")
    assert code == 2
    assert "train: 1 file ignored: hidden" in out
    assert "train: 1 file ignored: named .txt" in out
    assert "train: 5 images in subfolders of class folders; used all the same" in out
    assert "warning: train: 1 image beside the class folders, not used (loose.png)" in out
    assert out.splitlines()[-1].startswith("not usable: train/ has 1 class folder without an image (empty)")


def test_val_without_class_folders_needs_a_labels_file(check: Command, tmp_path: Path) -> None:
    root = photographs(tmp_path / "photos", splits=("train",))
    (root / "val").mkdir()
    for file in (root / "train" / "coffee").iterdir():
        shutil.copy(file, root / "val" / file.name)
    code, out, _ = check(root)
    assert code == 2
    assert "val: 5 images without class folders" in out
    assert "val/ has no class folders and there is no labels file" in out.splitlines()[-1]
    labels = root / "LOC_val_solution.csv"
    labels.write_text("completely wrong\n")
    code, out, _ = check(root)
    assert code == 2
    assert f"data.val_labels={labels}" in out.splitlines()[-1]
    names = [file.stem for file in (root / "val").iterdir()]
    rows = [f"{name},n01440764 1 2 3 4" for name in names]
    labels.write_text("\n".join(["ImageId,PredictionString", *rows]))
    code, out, _ = check(root)
    assert code == 0
    assert f"val: for its labels set data.val_labels={labels}" in out
    assert "val: 5 of 5 images decode" in out


def test_an_evaluation_set_is_usable_for_evaluation(check: Command, tmp_path: Path) -> None:
    root = tmp_path / "imagenet-a"
    for wnid in timm_list("imagenet_a_synsets.txt"):
        (root / wnid).mkdir(parents=True)
        (root / wnid / "1.jpg").touch()
    code, out, _ = check(root, "--no-decode")
    assert code == 0
    assert f"usable: an evaluation set, hornet-eval data=imagenet_a data.root={root}" in out.splitlines()[-1]


def test_splits_with_other_names_are_not_taken_for_classes(check: Command, tmp_path: Path) -> None:
    root = photographs(tmp_path / "photos")
    (root / "train").rename(root / "known")
    (root / "val").rename(root / "new")
    code, _, err = check(root)
    assert code == 2
    assert "are these the splits? --splits known,new" in err
    assert check(root, "--splits", "known,new")[0] == 0
    (root / "known").rename(root / "Train")  # these are those of a training
    (root / "new").rename(root / "valid")
    code, out, _ = check(root, "--no-decode")
    assert code == 0
    assert f"layout: Train/, valid/ in {root}" in out


def test_root_is_a_split_or_class_folders(check: Command, tmp_path: Path) -> None:
    root = photographs(tmp_path / "photos")
    code, out, _ = check(root / "train", "--no-decode")
    assert code == 0
    assert f"layout: {root}/train is the split itself; data.root={root}" in out
    (root / "train").rename(tmp_path / "classes")
    code, out, _ = check(tmp_path / "classes")
    assert code == 0
    assert f"hornet-train data=folder data.root={tmp_path}/classes data.val_share=0.2" in out
    assert out.splitlines()[-1] == "usable"
    (tmp_path / "classes/coffee/00.png").write_bytes(b"")  # which a training replaces
    assert check(tmp_path / "classes")[0] == 0


def test_litter_is_not_looked_at_and_turned_photos_are_counted(check: Command, tmp_path: Path) -> None:
    root = photographs(tmp_path / "photos")
    for place in ("@eaDir", "coffee/@eaDir/00.png", "chelsea/x/__MACOSX"):
        (root / "train" / place).mkdir(parents=True)
        shutil.copy(root / "val/coffee/00.png", root / "train" / place / "thumb.png")
    for number, orientation in ((0, 6), (1, 1), (2, 3)):
        file = root / f"train/astronaut/{number:02d}.jpg"
        with Image.open(file) as image:
            image.save(file, exif=exif_of(orientation))
    code, out, _ = check(root)
    assert code == 0
    assert "train: 3 classes, 15 images, 5 a class" in out
    assert "warning: train: 2 photos with an EXIF orientation: stored turned or mirrored" in out
    assert "data.exif=apply" in out


def test_known_data_sets_are_recognised(check: Command, tmp_path: Path) -> None:
    wnids = sorted(IMAGENET_1K.wnids())
    for wnid in wnids:
        (tmp_path / "train" / wnid).mkdir(parents=True)
        (tmp_path / "train" / wnid / "x.JPEG").touch()
    code, out, _ = check(tmp_path, "--no-decode")
    assert code == 0
    assert "classes: ImageNet-1K: exactly its 1,000 classes" in out
    assert "warning: train: ImageNet-1K has 1,281,167 images: 1,280,167 missing" in out
    for wnid in wnids[:10]:
        (tmp_path / "woofs" / "train").mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / wnid).rename(tmp_path / "woofs" / "train" / wnid)
    out = check(tmp_path / "woofs", "--no-decode")[1]
    assert "10 of ImageNet-1K's 1,000 classes (a subset" in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["nowhere"], "nowhere does not exist; give the folder that holds train/ and val/"),
        (["."], ". holds none of train/, val/ and no images in class folders"),
        ([".", "--split", "x"], "unknown flag --split of hornet-data check: did you mean '--splits'?"),
        ([".", "--splits", "a,,b"], "'a,,b' is not a list of distinct folder names"),
        ([".", "--workers", "0"], "'0' is not a whole number at least 1"),
        ([".", "--no-decode", "--csv", "x"], "leave them out with --no-decode"),
        ([], "the following arguments are required: ROOT"),
    ],
)
def test_mistakes_are_reported_without_a_traceback(
    command: Command, tmp_path: Path, monkeypatch, flags: list[str], message: str
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    code, _, err = command("hornet-data", "check", *flags)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 3


def test_help_lists_the_commands(command: Command) -> None:
    code, out, _ = command("hornet-data", "--help")
    assert code == 0
    assert "check" in out
    assert "pack" in out
    assert "--no-decode" in command("hornet-data", "check", "--help")[1]
    assert "did you mean 'check'" in command("hornet-data", "chek")[2]


def test_class_names_that_differ_only_in_unicode_form(check: Command, tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        folder = tmp_path / "photos" / "train" / unicodedata.normalize(form, "grün")
        folder.mkdir(parents=True)
        Image.new("L", (1, 1)).save(folder / "x.png")
    assert "differ only in Unicode form" in check(tmp_path / "photos", "--no-decode")[1]
