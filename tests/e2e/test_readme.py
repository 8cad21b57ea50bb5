"""Every command of the README runs: on small stand-ins for ImageNet, photos and checkpoints, for a step."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import metadata
from pathlib import Path

import pytest
import timm
import torch
from configs import compose_eval, compose_train
from helpers import BIN, ROOT, run
from PIL import Image
from service import served
from shapes import write_shapes
from timm.data import ImageNetInfo

import hornet_train.models  # noqa: F401 - registers
from hornet_train.cli.data import SUBCOMMANDS
from hornet_train.cli.export import parser as export_parser
from hornet_train.cli.flags import keys_and_pictures
from hornet_train.cli.predict import parser as predict_parser
from hornet_train.export.export_wanted import FORMATS


def commands_of(text: str) -> list[str]:
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


README = (ROOT / "README.md").read_text()
BEFORE, _, SEGMENTATION = README.partition("\n## Segmentation\n")
SEGMENTATION, _, DETECTION = SEGMENTATION.partition("\n## Detection\n")
DETECTION, _, AFTER = DETECTION.partition("\n## ")
COMMANDS = commands_of(BEFORE + AFTER)  # those of segmentation and detection have tests of their own
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
TRAINED = [line for line in COMMANDS if "hornet-train " in line or "-m hornet_train" in line]

# A training of the README, cut down to a step of a small model on small images.
SMALL = (
    "model.name=hornet_pico_gf data.image_size=32 data.workers=0 epochs=1it schedule.warmup=0it batch_size=8 "
    "micro_batch_size=4 dist=cpu checkpoint.keep=1 data.drop_last=true"
)


def tree(root: Path, classes: list[str], count: int) -> None:
    image = Image.new("RGB", (36, 36), (90, 120, 30))
    root.mkdir(parents=True)
    image.save(root / "one.jpg")
    for split in ("train", "val"):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                os.link(root / "one.jpg", root / split / name / f"{i}.jpg")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the README's commands name."""
    home = tmp_path_factory.mktemp("home")
    tree(home / "data/imagenet", list(ImageNetInfo("imagenet-1k").label_names()), 1)
    tree(home / "photos", ["cat", "dog"], 6)
    (home / ".venv").mkdir()
    (home / ".venv/bin").symlink_to(BIN)
    for file, classes in (
        ("hornet_tiny_7x7", 1000),
        ("hornet_tiny_gf", 1000),
        ("hornet_large_gf_22k", 10_459),
    ):
        model = timm.create_model("hornet_pico_gf", num_classes=classes)
        torch.save({"model": model.state_dict()}, home / f"{file}.pth")
    torch.save(torch.arange(1000), home / "in1k_to_21k_map.pth")
    return home


def adapted(line: str, home: Path) -> list[str]:
    """The command as it stands, with the paths of the stand-ins, fewer processes and a short run."""
    line = line.replace("=/data", f"={home}/data").replace(" /data/", f" {home}/data/")
    line = line.replace("/shared/", f"{home}/shared/").replace("suite=all", "suite=[imagenet]")
    line = line.replace("$NODE0:29500", "localhost:0").replace("--nnodes=4", "--nnodes=1")
    line = line.replace("--nproc_per_node=8", "--nproc_per_node=2")
    if "task=examples" in line:  # of this checkout; its keys are its own
        line = f"{line.replace('epochs=4', 'epochs=1it').replace('warmup=8it', 'warmup=0it')} dist=cpu"
    elif line in COMMANDS or "hornet_train" in line or "hornet-train" in line:
        line += "" if "--help" in line else f" {SMALL}"
    if "model=timm" in line:
        line = line.replace("model.name=hornet_pico_gf", "").replace("convnext_tiny", "test_convnext")
    return shlex.split(line)


def typed(command: list[str], home: Path) -> subprocess.CompletedProcess[str]:
    """The command in that folder, where its path is looked for."""
    assert os.access(home / command[0], os.X_OK)
    return run(Path(command[0]).name, *command[1:], cwd=home)


def test_it_opens_with_what_it_is_the_two_commands_and_a_picture() -> None:
    opening = README.split("\n## ")[0]
    assert COMMANDS[:2] == ["make train", "make test"]
    picture = re.search(r"!\[.*?\]\((.*?)\)", opening)
    assert picture is not None
    assert (ROOT / picture[1]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("line", TRAINED)
@pytest.mark.long
def test_training_commands(home: Path, line: str) -> None:
    command = adapted(line, home)
    done = typed(command, home)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"best (top1|map)", done.stdout) or ("--help" in line) or ("--cfg" in line)


@pytest.mark.long
def test_evaluation_commands(home: Path) -> None:
    """After the trainings that they evaluate, whatever the order of the tests."""
    lines = [line for line in COMMANDS if "hornet-eval" in line]
    assert len(lines) == 5
    for line in lines:
        if folder := re.search(r"checkpoint=(runs/\w+)", line):
            made = "model=hornet_pico_gf data=folder data.root=photos data.workers=0 batch_size=4 epochs=1it"
            arguments = f"{made} schedule.warmup=0it data.image_size=32 dist=cpu run_dir={folder[1]}"
            shutil.rmtree(home / folder[1], ignore_errors=True)
            assert run("hornet-train", *arguments.split(), cwd=home).returncode == 0
        command = adapted(line, home)
        command = [part for part in command if part not in SMALL.split()]
        done = typed(command, home)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "top-1" in done.stdout


@pytest.mark.long
def test_prediction_commands(home: Path) -> None:
    lines = [line for line in COMMANDS if "hornet-predict" in line or "hornet-export" in line]
    assert len(lines) == 6
    made = "model=hornet_pico_gf data=folder data.root=photos data.workers=0 batch_size=4 epochs=1it"
    arguments = f"{made} schedule.warmup=0it data.image_size=32 dist=cpu run_dir=runs/photos"
    shutil.rmtree(home / "runs/photos", ignore_errors=True)
    assert run("hornet-train", *arguments.split(), cwd=home).returncode == 0
    shutil.copytree(home / "photos/val/cat", home / "holiday")
    shutil.copy(home / "holiday/0.jpg", home / "cat.jpg")
    lines.remove(".venv/bin/hornet-predict checkpoint=runs/photos --serve")
    with served(home / "runs/photos") as service:
        assert set(service.ask(body=(home / "cat.jpg").read_bytes())[1]["classes"]) == {"cat", "dog"}
    for line in lines:
        small = " model.name=hornet_pico_gf data.image_size=32" if "imagenet" in line else ""
        done = typed(shlex.split(line + small), home)
        assert done.returncode == 0, done.stdout + done.stderr
        said = 6 if "imagenet" in line else 5 if "hornet-export" in line else 1
        assert len(done.stdout.splitlines()) == (0 if "--out answers.csv" in line else said)
    assert len((home / "answers.csv").read_text().splitlines()) == 6 * 2 + 1


def test_data_commands(home: Path) -> None:
    lines = [line for line in COMMANDS if "hornet-data" in line]
    assert len(lines) == 2
    for line, message in zip(lines, ("usable", "16 training images"), strict=True):
        shown = " data.workers=0 data.image_size=32" if " show " in line else " --no-decode"
        command = shlex.split(line.replace("/data/", f"{home}/data/") + shown)
        done = typed(command, home)
        assert done.returncode == 0, done.stdout + done.stderr
        assert message in done.stdout


EXTRAS = metadata("hornet-train").get_all("Provides-Extra")
PAGES = {
    line: page
    for page in ("data", "dense", "deploy")
    for line in commands_of((ROOT / f"docs/{page}.md").read_text())
}


@pytest.mark.parametrize("line", PAGES)
def test_the_commands_of_other_pages_are_understood(line: str) -> None:
    """Their keys compose, their flags are flags. What they do is tested elsewhere."""
    program, *arguments = shlex.split(line)
    if program == "hornet-data":
        parser = import_module(SUBCOMMANDS[arguments[0]][0]).parser()
        read = parser.read(arguments[1:])
        keys = getattr(read, "overrides", [one for one in getattr(read, "what", []) if "=" in one])
        compose_train(keys)
    elif program == "hornet-train":
        compose_train(arguments)
    elif "hornet-export" in line:
        options = export_parser().read(arguments)
        assert keys_and_pictures(options.what)[0]
        assert options.format in FORMATS
        assert options.out.suffix == FORMATS[options.format].suffix
    elif program == "pip":
        assert arguments[1].removeprefix("hornet-train[").rstrip("]") in EXTRAS
    elif program == "python":
        assert (ROOT / arguments[0]).is_file()
    elif "predict" in line:
        given = [one for one in arguments if not one.startswith(("--nproc", "-m", "hornet_train"))]
        given = given[given.index("hornet-predict") + 1 :] if "hornet-predict" in given else given
        read = predict_parser().read(given)
        keys, pictures = keys_and_pictures(read.what)
        assert bool(pictures) != read.serve
        assert all(key.startswith("checkpoint=") for key in keys)
    else:
        assert program == "hornet-eval"
        absent = dict.fromkeys(("backbone", "fusion", "channels"))
        model = {"name": "upernet_hornet_tiny_gf", **absent, "dropout": 0.1}
        dense = {"task": {"name": "segmentation"}, "model": model, "data": {"source": "masks", "root": "/x"}}
        if "objects" in line or "coco" in line:
            absent = dict.fromkeys(("backbone", "neck", "channels", "width"))
            model = {"name": "mask_rcnn_fpn_hornet_small_7x7", **absent, "masks": True}
            data = {"source": "coco_folder", "root": "/x"}
            dense = {"task": {"name": "detection"}, "model": model, "data": data}
        compose_eval(
            arguments,
            lambda path: dense if path.startswith("runs") and "dense" in PAGES[line]
            else {} if path.startswith("upernet") else {"model": {"name": "hornet_tiny_gf"}, "data": {}},
        )  # fmt: skip


@pytest.mark.dense
def test_segmentation_in_eight_lines(home: Path) -> None:
    lines = commands_of(SEGMENTATION)
    assert len(lines) == 8
    write_shapes(home / "data/ADEChallengeData2016", train=6, val=2)
    (home / "data/ADEChallengeData2016/classes.txt").unlink()
    (home / "scripts").symlink_to(ROOT / "scripts")
    small = "model.args={dim: 8, depths: [1, 1, 1, 1], stem_stride: 2} model.channels=16 data.image_size=32"
    short = "data.workers=0 epochs=1it schedule.warmup=0it dist=cpu"
    for line in lines:
        command = shlex.split(line.replace("=/data", f"={home}/data").replace(" /data/", f" {home}/data/"))
        if "make_shapes" in line:
            command = [*command[:3], "--train", "16", "--val", "4", "--size", "48"]
        if "recipe=masks" in line:
            command += [*re.findall(r"\S+=\{.*?\}|\S+", f"{small} {short}"), "batch_size=8"]
        if "recipe=upernet" in line:
            command = [part.replace("nproc_per_node=8", "nproc_per_node=2") for part in command]
            command += ["model=upernet", "model.backbone=hornet_pico_gf", "model.channels=16", "batch_size=4"]
            command += [*short.split(), "data.image_size=64", "data.scale=[64,256]", "model.drop_path=0.0"]
        if "checkpoint=runs/ade" in line:
            command += ["data.ratios=[0.5,1.0]"]
        done = subprocess.run(
            [str(BIN / Path(command[0]).name), *command[1:]],
            cwd=home, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert list((home / "runs/shapes").rglob("overlays/*.png"))
    assert json.loads(next((home / "runs/ade").rglob("eval.json")).read_text())["count"] == 2


@pytest.mark.dense
def test_detection_in_eight_lines(home: Path) -> None:
    lines = commands_of(DETECTION)
    assert len(lines) == 8
    drawn = write_shapes(home / "drawn", train=6, val=2)
    (home / "data/coco/annotations").mkdir(parents=True)
    for split, folder in (("train", "training"), ("val", "validation")):
        (home / f"data/coco/{split}2017").symlink_to(drawn / "images" / folder)
        (drawn / f"{split}.json").rename(home / f"data/coco/annotations/instances_{split}2017.json")
    if not (home / "scripts").exists():
        (home / "scripts").symlink_to(ROOT / "scripts")
    small = ["model.args={dim: 8, depths: [1, 1, 1, 1]}", "model.channels=8", "model.width=16"]
    sizes = ["data.scale=[48,64]", "augment.short_sides=[48]", "data.workers=0"]
    short = ["epochs=1it", "schedule.warmup=0it", "dist=cpu", "batch_size=4"]
    for line in lines:
        command = shlex.split(line.replace("=/data", f"={home}/data"))
        if "make_shapes" in line:
            command = [*command[:3], "--train", "16", "--val", "4", "--size", "48"]
        if "recipe=objects" in line:
            command[2:2] = [*small, *sizes] if "show" in line else []
            command += [] if "show" in line else [*small, *sizes, *short]
        if "recipe=cascade" in line:
            command = [part.replace("nproc_per_node=8", "nproc_per_node=2") for part in command]
            command += [
                "model=cascade_mask_rcnn",
                "model.backbone=hornet_pico_gf",
                "model.args={stem_stride: 2}",  # as the classifier's
                *small[1:],
                *sizes,
                *short,
            ]
            command += ["augment.crop_share=0", "micro_batch_size=null", "model.drop_path=0.0"]
        done = subprocess.run(
            [str(BIN / Path(command[0]).name), *command[1:]],
            cwd=home, capture_output=True, text=True, timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (line, done.stdout, done.stderr)
    assert list((home / "runs/objects").rglob("overlays/*.png"))
    assert list((home / "runs/objects").rglob("mask_results.json"))
    assert json.loads(next((home / "runs/coco").rglob("eval.json")).read_text())["count"] == 2


def test_info_commands(command: Callable[..., tuple[int, str, str]]) -> None:
    lines = [line for line in COMMANDS if "hornet-info" in line]
    assert len(lines) == 9
    lines.remove(".venv/bin/hornet-info --family")  # test_info runs it
    for line in lines:
        name, *arguments = shlex.split(line)
        code, out, err = command(Path(name).name, *arguments)
        assert code == 0, err
        assert "GMACs" in out


def test_bench_commands(home: Path) -> None:
    lines = [line for line in COMMANDS if "hornet-bench" in line]
    assert len(lines) == 1
    small = "models=hornet_pico_gf image_size=64 batch_size=1 rounds=1 compile=false precision=fp32 dist=cpu"
    for line in lines:
        given = line.replace("swin_tiny_patch4_window7_224", "test_vit").replace(
            "convnext_tiny", "test_convnext"
        )
        done = typed(shlex.split(f"{given} {small}"), home)
        assert (done.returncode, done.stderr) == (0, "")
        assert "test_vit" in done.stdout


@pytest.mark.long
def test_make(tmp_path: Path) -> None:
    """`make train` as it is, in this environment, for a step; the targets that the README names are there."""
    stamp = tmp_path / "venv"
    stamp.mkdir()
    (stamp / "bin").symlink_to(BIN)
    (stamp / ".installed").touch()
    arguments = f"epochs=1it schedule.warmup=0it dist=cpu run_dir={tmp_path}/run"
    made = subprocess.run(
        ["make", "train", f"VENV={stamp}", f"ARGS={arguments}"],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert f"results: {tmp_path}/run" in made.stdout
    assert "installing" not in made.stdout
    for target in ("test", "help", "check", "test-accuracy", "test-timm", "bench-data"):
        assert f"make {target}" in README
        planned = subprocess.run(
            ["make", "-n", target, f"VENV={stamp}"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert planned.returncode == 0, planned.stderr


def test_a_change_of_what_is_asked_for_installs_again(tmp_path: Path) -> None:
    """By a stand-in for pip: not on a second call, but when pyproject.toml or the constraints change."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "python").write_text(
        '#!/bin/sh\necho "$@" >> calls\n'
        'case "$1 $2" in "-m venv") mkdir -p "$3/bin"; cp "$0" "$3/bin/python";; esac\n'
    )
    (tmp_path / "python").chmod(0o755)

    def calls() -> int:
        done = subprocess.run(
            ["make", "install", "PYTHON=./python", "VENV=.venv"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return (tmp_path / "calls").read_text().count("pip install")

    assert [calls(), calls()] == [1, 1]
    for count, name in ((2, "pyproject.toml"), (3, "constraints.txt")):
        later = (tmp_path / ".venv/.installed").stat().st_mtime + 5 * count
        os.utime(tmp_path / name, (later, later))
        assert calls() == count
        os.utime(tmp_path / ".venv/.installed", (later + 1, later + 1))
        assert calls() == count


def test_the_calls(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Those of the README, of a smaller model for a step on the photos."""
    assert len(EXAMPLES) == 4
    small = " ".join(f'"{key}",' for key in SMALL.split() if not key.startswith(("batch_size", "epochs")))
    loading, training, _, _ = EXAMPLES
    call = training.replace("hornet_t_7x7", "hornet_pico_7x7").replace("batch_size=64", "batch_size=8")
    call = call.replace('"epochs=30"', f'"epochs=1it", {small}'.replace('"model.name=hornet_pico_gf",', ""))
    monkeypatch.chdir(home)
    exec(call.replace("cat.jpg", "photos/one.jpg"), {})
    shown = capsys.readouterr().out.splitlines()
    assert any(re.fullmatch(r"runs/\S+ [\d.]+ [\d.]+", line) for line in shown)
    assert 0 <= float(shown[-3]) <= 100
    assert sorted(ast.literal_eval(shown[-2])["classes"]) == ["cat", "dog"]
    assert int(shown[-1]) > 10**9
    run_dir = next(line.split()[0] for line in shown if re.fullmatch(r"runs/\S+ [\d.]+ [\d.]+", line))
    exec(re.sub(r"(cat|dog)\.jpg", "photos/one.jpg", loading.replace("runs/photos", run_dir)), {})
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("('cat', 'dog')")
    assert [sorted(one["classes"]) for one in ast.literal_eval(shown[1])] == [["cat", "dog"]] * 2


def test_the_library_example(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    exec(EXAMPLES[3], {})  # which prints what would be exchanged
    assert "8 layers would be exchanged" in capsys.readouterr().out
    exec(EXAMPLES[2], names)
    assert type(names["model"]).__name__ == "HorNet"
    x = torch.randn(1, 64, 9, 10)
    for name, width in (("layer", 64), ("wider", 128), ("filter", 64)):
        assert names[name](x).shape == (1, width, 9, 10)  # type: ignore[operator]
