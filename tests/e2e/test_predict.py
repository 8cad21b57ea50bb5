"""hornet-predict: answers of a classifier for files, folders and lists, in every format."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from helpers import BIN, ROOT, run, torchrun
from PIL import Image

import hornet_train
from hornet_train.tasks.asked import Asked

Command = Callable[..., tuple[int, str, str]]

RUN = ROOT / "tests" / "old_run" / "run"
CHECKPOINT = f"checkpoint={RUN}"
JSON_OF_ALL = ("--format", "jsonl", "--quiet", "--top", "10")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven pictures of several sizes and modes in photos/, and a damaged one among them."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    rng = np.random.default_rng(0)
    modes = ("RGB", "L", "RGBA", "RGB", "1", "RGB", "LA")
    for number, mode in enumerate(modes):
        pixels = rng.integers(0, 255, (9 + 3 * number, 30, 4), dtype=np.uint8)
        image = Image.fromarray(pixels).convert(mode)
        image.save(folder / ("more" if number > 4 else "") / f"p{number}.png")
    content = (folder / "p0.png").read_bytes()
    (folder / "p2b.png").write_bytes(content[: len(content) // 2])
    return folder


def files(photos: Path) -> list[str]:
    names = ["p0", "p1", "p2", "p2b", "p3", "p4", "more/p5", "more/p6"]
    return [f"photos/{name}.png" for name in names]


def test_answers_are_those_of_the_library_in_every_format(photos: Path, command: Command) -> None:
    code, out, err = command("hornet-predict", CHECKPOINT, "photos", "--format", "jsonl", "batch_size=3")
    assert code == 0, err
    found = [json.loads(line) for line in out.splitlines()]
    assert [one["file"] for one in found] == files(photos)
    assert "could not be read" in err
    model = hornet_train.load(RUN)
    for one in found:
        if one["file"] == "photos/p2b.png":
            assert one.keys() == {"file", "error"}
            continue
        expected = model.predict(one["file"])
        assert one["classes"] == expected["classes"]
        assert one["probabilities"] == pytest.approx(expected["probabilities"], abs=2e-6)

    code, out, err = command("hornet-predict", CHECKPOINT, "photos", "--out", "out.csv", "--top", "2")
    assert (code, out) == (0, ""), err
    rows = list(csv.DictReader(io.StringIO(Path("out.csv").read_text(encoding="utf-8"))))
    assert [*rows[0]] == ["file", "rank", "class", "probability", "error"]
    assert [row["file"] for row in rows if row["rank"] in ("1", "")] == files(photos)
    assert len(rows) == 2 * 7 + 1
    by_file = {one["file"]: one for one in found}
    for row in rows:
        one = by_file[row["file"]]
        if row["error"]:
            assert row["error"] == one["error"]
            continue
        place = int(row["rank"]) - 1
        assert row["class"] == one["classes"][place]
        assert float(row["probability"]) == pytest.approx(one["probabilities"][place], abs=2e-6)

    code, out, _ = command("hornet-predict", CHECKPOINT, "photos", "--quiet", "--top", "1")
    assert code == 0
    lines = out.splitlines()
    assert [line.split()[0] for line in lines] == files(photos)
    assert lines[3].split(maxsplit=1)[1].startswith("cannot be read: ")
    first = found[0]
    assert lines[0].split(maxsplit=1)[1] == f"{first['classes'][0]} {first['probabilities'][0]:.1%}"


def test_several_views_of_a_picture(photos: Path, command: Command) -> None:
    """With its mirror image, a picture and its mirror image have one answer; without, two."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
    pixels[:, :20] = (255, 0, 0)
    image = Image.fromarray(pixels)
    image.save("left.png")
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save("right.png")

    def ask(*flags: str) -> list[dict[str, float]]:
        code, out, err = command("hornet-predict", CHECKPOINT, "left.png", "right.png", *flags, *JSON_OF_ALL)
        assert code == 0, err
        found = map(json.loads, out.splitlines())
        return [dict(zip(one["classes"], one["probabilities"], strict=True)) for one in found]

    plain, both = ask(), ask("--flip")
    assert both[0] == pytest.approx(both[1], abs=2e-6)
    assert plain[0] != pytest.approx(plain[1], abs=1e-5)
    assert both[0] == pytest.approx(
        {name: (plain[0][name] + plain[1][name]) / 2 for name in plain[0]}, abs=3e-6
    )
    assert ask("--scales", "1", "--crops", "1") == plain
    several = ask("--scales", "1,2", "--crops", "5", "--flip")
    assert several[0] == pytest.approx(several[1], abs=2e-6)
    assert several[0] != pytest.approx(both[0], abs=1e-5)
    asked = Asked(top=10, scales=(1.0, 2.0), crops=5, flip=True)
    answer = hornet_train.load(RUN, asked=asked).predict("left.png")
    assert dict(zip(answer["classes"], answer["probabilities"], strict=True)) == pytest.approx(
        several[0], abs=2e-6
    )


def test_features_are_what_the_last_layer_sees(photos: Path, command: Command) -> None:
    """From them come the probabilities that are said; they are in the order of the answers."""
    given = (CHECKPOINT, "photos", "batch_size=3", *JSON_OF_ALL)
    code, out, err = command("hornet-predict", *given, "--features", "all.npy")
    assert code == 0, err
    _, plain, _ = command("hornet-predict", *given)
    assert out == plain
    found = np.load("all.npy")
    model = hornet_train.load(RUN)
    head = model.model.head
    assert found.shape == (8, head.in_features)
    assert found.dtype == np.float32
    probabilities = torch.softmax(head(torch.from_numpy(found)), dim=1)
    for row, line in zip(probabilities, map(json.loads, out.splitlines()), strict=True):
        if "error" in line:
            assert row.isnan().all()
            continue
        values = dict(zip(model.classes, row.tolist(), strict=True))
        assert [values[name] for name in line["classes"]] == pytest.approx(line["probabilities"], abs=2e-6)
    known = [name for name in files(photos) if "p2b" not in name]
    kept = np.delete(found, 3, axis=0)
    torch.testing.assert_close(model.features(known), torch.from_numpy(kept), rtol=1e-4, atol=1e-5)
    assert torch.equal(model.features(known[0]), model.features(known[:1])[0])

    code, _, err = command("hornet-predict", *given, "--features", "all.parquet")
    assert code == 0, err
    table = pq.read_table("all.parquet").to_pylist()
    assert [row["file"] for row in table] == files(photos)
    assert [row["features"] is None for row in table] == [bool(row["error"]) for row in table]
    assert np.array_equal([row["features"] for row in table if not row["error"]], kept)


def test_damaged_pictures_at_the_front_have_rows_of_features(photos: Path, command: Command) -> None:
    given = ("photos/p2b.png", "photos/p0.png", "--features", "some.npy", "batch_size=1")
    code, _, err = command("hornet-predict", CHECKPOINT, *given)
    assert code == 0, err
    assert np.isnan(np.load("some.npy")).all(axis=1).tolist() == [True, False]
    code, _, err = command("hornet-predict", CHECKPOINT, "photos/p0.png", "--features", "some.npy")
    assert (code, "some.npy exists" in err) == (2, True)
    code, _, err = command("hornet-predict", CHECKPOINT, "photos/p0.png", "--features", "some.csv")
    assert (code, "its suffix is neither .npy nor .parquet" in err) == (2, True)
    same = ("--out", "x.npy", "--format", "jsonl", "--features", "./x.npy")
    code, _, err = command("hornet-predict", CHECKPOINT, "photos/p0.png", *same)
    assert (code, "two of them are one file" in err) == (2, True)


def test_heat_maps_are_drawn_on_what_the_model_sees(photos: Path, command: Command) -> None:
    given = (CHECKPOINT, "photos", "batch_size=3", *JSON_OF_ALL)
    _, plain, _ = command("hornet-predict", *given, "fuse=false")
    code, out, err = command("hornet-predict", *given, "--heatmaps", "heat", "--features", "all.npy")
    assert code == 0, err
    assert [json.loads(line)["file"] for line in out.splitlines()] == files(photos)
    for line, known in zip(out.splitlines(), plain.splitlines(), strict=True):
        expected = json.loads(known).get("probabilities")
        assert json.loads(line).get("probabilities") == pytest.approx(expected, abs=2e-6)
    drawn = sorted(path.relative_to("heat") for path in Path("heat").rglob("*.png"))
    assert len(drawn) == 7
    for path in drawn:
        with Image.open("heat" / path) as picture:
            assert picture.size == (32, 32)
    code, _, err = command("hornet-predict", CHECKPOINT, "photos", "--heatmaps", "photos")
    assert (code, "where the data are" in err) == (2, True)


def test_a_threshold_leaves_classes_out(photos: Path, command: Command) -> None:
    given = (CHECKPOINT, "photos/p0.png", "--format", "jsonl", "--quiet")
    _, out, _ = command("hornet-predict", *given, "--top", "10")
    whole = json.loads(out)
    limit = (whole["probabilities"][2] + whole["probabilities"][3]) / 2
    _, out, _ = command("hornet-predict", *given, "--top", "10", "--threshold", f"{limit:.6f}")
    assert json.loads(out)["classes"] == whole["classes"][:3]
    _, out, _ = command("hornet-predict", CHECKPOINT, "photos/p0.png", "--threshold", "1")
    assert out.split(maxsplit=1)[1] == "none above 100.0%\n"


@pytest.mark.quick
def test_two_processes_write_what_one_writes(photos: Path) -> None:
    given = ["-m", "hornet_train.cli.predict", CHECKPOINT, "photos", "--quiet", "batch_size=1"]
    one = run(sys.executable, *given, "--out", "one.jsonl", "--features", "1.npy", cwd=photos.parent)
    assert one.returncode == 0, one.stderr
    two = torchrun(2, *given, "--out", "two.jsonl", "--features", "2.npy", cwd=photos.parent)
    assert two.returncode == 0, two.stderr
    assert Path("two.jsonl").read_text(encoding="utf-8") == Path("one.jsonl").read_text(encoding="utf-8")
    assert len(Path("one.jsonl").read_text(encoding="utf-8").splitlines()) == 8
    assert np.array_equal(np.load("1.npy"), np.load("2.npy"), equal_nan=True)


def test_workers_read_what_this_process_reads(photos: Path, command: Command) -> None:
    for number in range(40):
        shutil.copy(photos / "p0.png", photos / f"q{number}.png")
    outs = [
        command("hornet-predict", CHECKPOINT, "photos", "batch_size=4", f"data.workers={workers}")[:2]
        for workers in (0, 2)
    ]
    assert outs[0] == outs[1]
    assert len(outs[0][1].splitlines()) == 48


def test_names_that_are_no_utf8(photos: Path, command: Command) -> None:
    odd = os.fsdecode(b"Gr\xfcn.png")
    (photos / "p0.png").rename(photos / odd)
    for form, escaped in (("jsonl", r"photos/Gr\\xfcn.png"), ("csv", r"photos/Gr\xfcn.png")):
        code, out, err = command("hornet-predict", CHECKPOINT, f"photos/{odd}", "--format", form)
        assert code == 0, err
        assert escaped in out
    Path("list.txt").write_text(r"photos/Gr\xfcn.png", encoding="utf-8")  # as the answers have it
    code, out, err = command("hornet-predict", CHECKPOINT, "list.txt")
    assert code == 0, err
    assert "cannot be read" not in out


def test_standard_input(photos: Path, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(content: bytes) -> list[dict[str, object]]:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        code, out, err = command("hornet-predict", CHECKPOINT, "-", "--format", "jsonl")
        assert code == 0, err
        return [json.loads(line) for line in out.splitlines()]

    (picture,) = answer((photos / "p0.png").read_bytes())
    listed = answer(b"photos/p0.png\nphotos/p1.png\n")
    assert [one["file"] for one in listed] == ["photos/p0.png", "photos/p1.png"]
    assert (picture["file"], picture["classes"]) == ("-", listed[0]["classes"])


def test_a_contact_sheet(photos: Path, command: Command) -> None:
    code, _, err = command("hornet-predict", CHECKPOINT, "photos", "--sheet", "sheet.png")
    assert code == 0, err
    assert "sheet.png shows 7 pictures" in err
    with Image.open("sheet.png") as sheet:
        assert min(sheet.size) > 300


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["photos"], "checkpoint is missing"),
        ([CHECKPOINT], "no pictures are given"),
        ([CHECKPOINT, "gone/"], "gone/: cannot be read"),
        (
            [CHECKPOINT, "photos", "--out", "there.csv"],
            "--out=there.csv exists: choose another, or --overwrite",
        ),
        ([CHECKPOINT, "photos", "--sheet", "there.png"], "--sheet=there.png exists"),
        ([CHECKPOINT, "photos", "--out", "answers.xml"], "none of .jsonl"),
        ([CHECKPOINT, "photos", "--out", "no/folder.csv"], "there is no folder"),
        ([CHECKPOINT, "photos", "--format", "coco"], "--format coco is for the boxes of a detector"),
        ([CHECKPOINT, "photos", "--masks", "m"], "--masks: the answers of this checkpoint are no masks"),
        ([CHECKPOINT, "photos", "--overlays", "m"], "--overlays: the answers of this checkpoint"),
        ([CHECKPOINT, "photos", "--threshold", "1.5"], "'1.5' is not a number from 0 to 1"),
        (
            [CHECKPOINT, "photos", "--topp", "3"],
            "unknown flag --topp of hornet-predict: did you mean '--top'",
        ),
        ([CHECKPOINT, "photos", "bach_size=3"], "did you mean 'batch_size'?"),
        ([CHECKPOINT, "photos", "out=x.json"], "out=x.json is the file of an evaluation's results"),
    ],
)
def test_mistakes_are_told_in_a_line_and_leave_nothing(
    photos: Path, command: Command, given: list[str], message: str
) -> None:
    for name in ("there.csv", "there.png"):
        Path(name).write_text("somebody's", encoding="utf-8")
    before = sorted(Path().rglob("*"))
    code, out, err = command("hornet-predict", *given)
    assert (code, out) == (2, "")
    assert message in err
    assert "Traceback" not in err
    assert sorted(Path().rglob("*")) == before
    assert Path("there.csv").read_text(encoding="utf-8") == "somebody's"


def test_where_no_picture_can_be_read_the_answers_say_why_and_the_code_is_2(
    photos: Path, command: Command
) -> None:
    code, _, err = command("hornet-predict", CHECKPOINT, "photos/p2b.png", "--out", "none.csv")
    assert code == 2
    assert "none of 1 picture could be read" in err
    (row,) = csv.DictReader(io.StringIO(Path("none.csv").read_text(encoding="utf-8")))
    assert "cannot be decoded" in row["error"]


def test_a_pipe_that_is_closed_is_no_error(photos: Path) -> None:
    command = f"set -o pipefail; {BIN}/hornet-predict {CHECKPOINT} photos --quiet batch_size=1 | head -n 1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=photos.parent, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr
