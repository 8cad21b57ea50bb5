"""Folders with damaged images, on one, two and four real processes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import events, run, torchrun
from PIL import Image
from processes import final
from skimage import data

Command = Callable[..., tuple[int, str, str]]

DAMAGED = ("cat/03.jpg", "cat/11.jpg", "dog/07.jpg")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 training images of two classes, three of them damaged, and 9 to evaluate on, one of them damaged."""
    root = tmp_path_factory.mktemp("photos")
    picture = Image.fromarray(data.astronaut())
    for name, left in (("cat", 0), ("dog", 200)):
        for split, count in (("train", 20), ("val", 5)):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                crop = picture.crop((left + 5 * i, 40, left + 5 * i + 60, 90))
                crop.save(root / split / name / f"{i:02}.jpg")
    train = root / "train"
    (train / DAMAGED[0]).write_bytes((train / DAMAGED[0]).read_bytes()[:300])
    (train / DAMAGED[1]).write_bytes(b"")
    (train / DAMAGED[2]).write_text("<html>403 Forbidden</html>")
    (root / "val/dog/02.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (root / "val/dog/04.jpg").unlink()
    return root


def arguments(photos: Path, run_dir: Path) -> list[str]:
    return [
        "data=folder", f"data.root={photos}", "data.workers=1", "data.image_size=32", "batch_size=16",
        "epochs=1", "augment=none", "optim.lr=1e-3", "schedule.warmup=1it", "log.every=1it",
        "ema.decay=0.9", f"run_dir={run_dir}",
    ]  # fmt: skip


def test_others_of_the_step_stand_in_on_any_number_of_processes(photos: Path, tmp_path: Path) -> None:
    runs = {}
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        more = ["data.max_bad=0.1", "data.on_bad=skip"]
        command = [*arguments(photos, folder), *more]
        done = (
            run("hornet-train", *command)
            if processes == 1
            else torchrun(processes, "-m", "hornet_train", *command)
        )
        assert done.returncode == 0, done.stderr
        assert "bad_sample" in done.stderr
        runs[processes] = folder
    for folder in runs.values():
        bad = events(folder, "bad_sample")
        assert sorted(event["path"] for event in bad) == sorted(str(photos / "train" / d) for d in DAMAGED)
        assert {event["reason"].split("(")[0] for event in bad} == {
            "cannot be decoded as an image ",
            "the file is empty ",
        }
        evaluations = events(folder, "eval")
        assert {(event["count"], event["bad"]) for event in evaluations} == {(8, 1)}
        for kind, keys in (("train", ("loss", "grad_norm")), ("eval", ("loss", "top1"))):
            ours, alone = events(folder, kind), events(runs[1], kind)
            assert len(ours) == len(alone)
            for a, b in zip(ours, alone, strict=True):
                assert [a[key] for key in keys] == pytest.approx([b[key] for key in keys], rel=2e-5)
    result = run("hornet-eval", f"checkpoint={runs[1]}", "data.on_bad=skip", f"out={tmp_path}/eval.json")
    assert result.returncode == 0, result.stderr
    assert "8 (1 could not be read)" in result.stdout
    evaluated = json.loads((tmp_path / "eval.json").read_text())
    assert (evaluated["count"], evaluated["bad"]) == (8, 1)
    stopped = run("hornet-eval", f"checkpoint={runs[1]}", "data.on_bad=error", f"out={tmp_path}/other.json")
    assert stopped.returncode == 2
    assert f"{photos}/val/dog/02.jpg: cannot be decoded" in stopped.stderr


@pytest.mark.long
def test_two_damaged_images_and_a_held_out_one_end_no_training(
    photos: Path, tmp_path: Path, command: Command
) -> None:
    """0.1% of 40 would be none. The held-out one is named once, and counted in each evaluation."""
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    shutil.copy(root / "train/cat/04.jpg", root / "train" / DAMAGED[0])
    given = [*arguments(root, tmp_path / "run"), "epochs=3", "data.drop_last=false"]
    code, out, err = command("hornet-train", *given)
    assert code == 0, err
    assert len(events(tmp_path / "run", "bad_sample")) == 2
    assert {(event["count"], event["bad"]) for event in events(tmp_path / "run", "eval")} == {(8, 1)}
    assert (out + err).count(f"left out of the evaluation: {root}/val/dog/02.jpg") == 1
    code, _, err = command("hornet-eval", f"checkpoint={tmp_path}/run")
    assert code == 2
    assert "val/dog/02.jpg: cannot be decoded" in err
    assert "data.on_bad=skip" in err
    code, _, err = command("hornet-train", *arguments(root, tmp_path / "other"), "data.on_bad=error")
    assert code == 2
    assert "val/dog/02.jpg" in err


def test_too_many_damaged_images_stop_the_run(photos: Path, tmp_path: Path, command: Command) -> None:
    code, _, err = command("hornet-train", *arguments(photos, tmp_path / "run"), "data.on_bad=skip")
    assert code == 2
    assert "of the 40 training samples cannot be read, more than data.max_bad=0.001 allows" in err
    assert any(str(photos / "train" / damaged) in err for damaged in DAMAGED)
    assert "hornet-data check" in err
    code, _, err = command(
        "hornet-train", *arguments(photos, tmp_path / "run"), "data.on_bad=skip", "data.max_bad=0.1"
    )
    assert code == 0, err


@pytest.mark.long
def test_damaged_files_may_go_while_a_run_is_stopped(
    photos: Path, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others keep their places: the same weights to the last bit. More of them may not go."""
    monkeypatch.setenv("HORNET_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    more = ["epochs=3", "data.drop_last=false", "data.max_bad=0.1", "data.workers=0"]
    code, _, err = command("hornet-train", *arguments(root, tmp_path / "whole"), *more)
    assert code == 0, err
    stop = "checkpoint.max_minutes=0.0001"  # after the first step
    code, _, err = command("hornet-train", *arguments(root, tmp_path / "run"), *more, stop)
    assert code == 75, err
    assert command("hornet-data", "check", str(root), "--csv", f"{tmp_path}/damaged.csv")[0] == 2
    for damaged in DAMAGED:
        (root / "train" / damaged).unlink()
    (root / "val/dog/02.jpg").unlink()
    going_on = ["hornet-train", f"run_dir={tmp_path}/run", "checkpoint.max_minutes=null"]
    good = root / "train/dog/10.jpg"
    good.rename(good.with_suffix(".txt"))
    code, _, err = command(*going_on)
    assert code == 2
    assert "train: 40 images -> 36 images" in err
    assert "1 have gone that were not reported as damaged (dog/10.jpg)" in err
    good.with_suffix(".txt").rename(good)
    shutil.copy(good, root / "train/dog/new.jpg")
    code, _, err = command(*going_on)
    assert code == 2
    assert "train: 1 new (dog/new.jpg); train: 3 gone (cat/03.jpg, cat/11.jpg, dog/07.jpg)" in err
    (root / "train/dog/new.jpg").unlink()

    code, _, err = command(*going_on[:2], stop)  # and once more
    assert code == 75, err
    code, out, err = command(*going_on)
    assert code == 0, err
    said = " ".join((out + err).split())
    assert "3 of the 40 training images were reported as damaged and are gone" in said
    assert "(cat/03.jpg, cat/11.jpg, dog/07.jpg): others stand in for them" in said
    assert "1 of the 9 held-out images" in said
    torch.testing.assert_close(final(tmp_path / "run"), final(tmp_path / "whole"), rtol=0, atol=0)
    assert {(event["count"], event["bad"]) for event in events(tmp_path / "run", "eval")} == {(8, 1)}
    shutil.copy(good, root / "train" / DAMAGED[0])  # mended
    code, _, err = command(*going_on, "epochs=4")
    assert code == 0, err


def test_a_run_that_met_too_many_goes_on_without_them(photos: Path, tmp_path: Path, command: Command) -> None:
    root = tmp_path / "photos"
    shutil.copytree(photos, root)
    (root / "val/dog/02.jpg").unlink()
    more = ["epochs=3", "checkpoint.every=1it", "batch_size=8", "data.workers=0"]
    code, _, err = command("hornet-train", *arguments(root, tmp_path / "run"), *more)
    assert code == 2
    assert "3 of the 40 training samples cannot be read" in err
    for damaged in DAMAGED:
        (root / "train" / damaged).unlink()
    code, out, err = command("hornet-train", *arguments(root, tmp_path / "run"), *more)
    assert code == 0, err
    assert "3 of the 40 training images were reported as damaged and are gone" in " ".join(
        (out + err).split()
    )
