"""The user's mistakes: exit code 2, a message that names key, value and remedy, nothing written over."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import TINY, events, resolve, run
from PIL import Image

Command = Callable[..., tuple[int, str, str]]


def picture_folders(root: Path, *classes: str, count: int = 3) -> None:
    for name in classes:
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.new("RGB", (40, 40), (60 * i, 90, 9)).save(root / name / f"{i}.png")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["model=hornet_tiny"], ["model=hornet_tiny", "did you mean 'hornet_"]),
        (["optim.weigth_decay=1"], ["optim.weigth_decay", "did you mean 'optim.weight_decay'"]),
        (["weight_decay=1"], ["did you mean 'optim.weight_decay'"]),
        (["data=digitss"], ["did you mean 'digits'"]),
        (["precision=fp8"], ["precision=fp8", "fp32"]),
        (["schedule.warmup=3"], ["schedule.warmup=3", "3ep"]),
        (["model=timm"], ["model.name is missing"]),
        (["model=timm", "model.name=convnextt_tiny"], ["convnextt_tiny", "did you mean 'convnext_tiny"]),
        (["model.args.foo=1"], ["model.args.foo: hornet_pico_gf has no such option", "depths, dim, orders"]),
        (["model.num_classes=7"], ["model.num_classes=7", "10 classes"]),
        (["batch_size=1438"], ["batch_size=1438", "1437"]),
        (["batch_size=96", "micro_batch_size=36"], ["micro_batch_size=32 or micro_batch_size=48"]),
        (["data.image_size=8"], ["data.image_size=8", "16 x 16"]),
        (["augment.policy=rand-m9-foo1"], ["augment.policy", "foo1"]),
        (["augment.policy=augmx-m3"], ["augment.policy=augmx-m3", "did you mean 'augmix'"]),
        (["epochs=1it", "schedule.warmup=9it"], ["schedule.warmup=9it", "longer than the run"]),
        (["init_from=nowhere.pth"], ["nowhere.pth"]),
        (["--fast"], ["--fast", "--help"]),
        (["model=timm", "model.name=vit_tiny_patch16_224"], ["data.image_size=32", "vit_tiny"]),
        (["model=timm", "model.name=test_vit", "model.args.num_heads=0"], ["model.args.num_heads"]),
        (["model=timm", "model.name=halonet26t"], ["data.image_size=32", "halonet26t", "AssertionError"]),
        (
            ["model=timm", "model.name=mobilenetv3_small_050", "batch_size=359"],
            ["mobilenetv3_small_050", "alone in a micro-batch", "data.drop_last=true"],
        ),
        (
            ["model=timm", "model.name=mobilenetv3_small_050", "batch_size=36", "micro_batch_size=1"],
            ["mobilenetv3_small_050", "micro_batch_size=1: give a larger one"],
        ),
        (["dist=cpu", "dist.backend=nccl"], ["dist.backend=nccl"]),
        (["seed=1,2"], ["seed=1,2"]),
        (["optim.lr=-1", "ema.decay=2", "opti.lr=1"], ["3 faults", "optim.lr=-1", "ema.decay=2", "opti.lr"]),
    ],
)
def test_config(tmp_path: Path, command: Command, arguments: list[str], reason: list[str]) -> None:
    code, out, err = command("hornet-train", *arguments, f"run_dir={tmp_path}/run")
    assert code == 2
    for words in reason:
        assert words in err
    assert "Traceback" not in out + err
    assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())


def test_folders(tmp_path: Path, command: Command) -> None:
    def refused(root: Path, *more: str) -> str:
        arguments = ("data=folder", "model=hornet_pico_gf", "batch_size=4", "data.workers=0", *more)
        code, _, err = command("hornet-train", *arguments, f"data.root={root}", f"run_dir={tmp_path}/run")
        assert code == 2
        return err

    code, _, err = command("hornet-train", "data=folder")
    assert code == 2
    assert "data.root is missing" in err
    assert "nowhere" in refused(tmp_path / "nowhere")
    root = tmp_path / "photos"
    picture_folders(root / "train", "cat", "dog")
    assert "val" in refused(root)
    picture_folders(root / "val", "cat", "fox")
    err = refused(root)
    assert "fox" in err
    assert "dog" in err
    shutil.rmtree(root / "val")
    picture_folders(root / "val", "cat", "dog")
    (root / "train/empty").mkdir()
    assert "empty" in refused(root)
    (root / "train/empty").rmdir()
    assert "n01440764" in refused(root, "data=imagenet")
    assert "10,459" in refused(root, "data=imagenet22k")
    (root / "train/cat/1.png").write_bytes(b"not a picture")
    assert "cat/1.png" in refused(
        *(root, "batch_size=6", "epochs=1", "schedule.warmup=0ep", "data.image_size=32"),
        "data.max_bad=0",
    )


def test_run_folders(tmp_path: Path, command: Command) -> None:
    (tmp_path / "file").write_text("mine")
    code, _, err = command("hornet-train", f"run_dir={tmp_path}/file")
    assert code == 2
    assert f"run_dir={tmp_path}/file" in err
    assert (tmp_path / "file").read_text() == "mine"

    folder = tmp_path / "run"
    short = [*TINY, "epochs=3it", f"run_dir={folder}"]
    assert command("hornet-train", *short)[0] == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code, _, err = command("hornet-train", *short, "optim.lr=2e-3", "seed=4")
    assert code == 2
    for reason in ("seed: 0 -> 4", "optim.lr: 0.001 -> 0.002", "resume=restart", "resume=force"):
        assert reason in err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before

    longer = [*short[:-1], short[-1], "epochs=5it"]
    code, out, err = command("hornet-train", *longer, "resume=force")
    assert code == 0, err
    assert "epochs: 3it -> 5it" in out
    assert "going on from" in out
    code, out, err = command("hornet-train", *longer, "seed=4", "resume=restart")
    assert code == 0, err
    assert "run.old1" in out
    assert (tmp_path / "run.old1/metrics.jsonl").exists()
    assert "resumed" not in (folder / "metrics.jsonl").read_text()

    (folder / "config.yaml").write_bytes(b"\xff\x00: [")
    code, _, err = command("hornet-train", *longer)
    assert code == 2
    assert "config.yaml cannot be read" in err


def test_damaged_checkpoints(tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "run"
    arguments = [*TINY, f"run_dir={folder}", "checkpoint.every=2it", "checkpoint.keep=9"]
    assert command("hornet-train", *arguments)[0] == 0
    newest = folder / "checkpoints/step_00000006/optimizer.safetensors"
    newest.write_bytes(newest.read_bytes()[:-100])
    code, out, err = command("hornet-train", *arguments)
    assert code == 0
    assert "step_00000006/optimizer.safetensors is damaged" in out + err
    assert "going on from" in out
    assert "step_00000004" in out
    for path in folder.glob("checkpoints/step_*/state.json"):
        path.write_text("{}")
    before = sorted(folder.rglob("*"))
    code, _, err = command("hornet-train", *arguments)
    assert code == 2
    assert "no checkpoint of this run can be used" in err
    assert "resume=restart" in err
    assert sorted(folder.rglob("*")) == before


def test_weights_of_another_model(tmp_path: Path, command: Command) -> None:
    folder = tmp_path / "run"
    assert command("hornet-train", *TINY, "epochs=1it", f"run_dir={folder}")[0] == 0
    code, _, err = command(
        "hornet-train", *TINY, "model=hornet_pico_7x7", f"init_from={folder}", f"run_dir={tmp_path}/other"
    )
    assert code == 2
    assert "made for another model" in err
    assert "gnconv.dwconv.weight" in err
    code, out, err = command(
        "hornet-train",
        *TINY,
        "data.num_classes=5",
        "epochs=1it",
        f"init_from={folder}",
        f"run_dir={tmp_path}/five",
    )
    assert code == 0, err
    assert "starting from" in out
    assert "head" in out, "a head of another class count is initialised again, and said"


def test_a_run_is_one_of_the_same_images(tmp_path: Path, command: Command) -> None:
    """Images that come or go between two starts would change the order of every epoch."""
    root = tmp_path / "photos"
    for split in ("train", "val"):
        picture_folders(root / split, "cat", "dog", count=6)
    arguments = [
        *("model=hornet_pico_gf", "data=folder", f"data.root={root}", "data.workers=0", "data.image_size=32"),
        *("batch_size=4", "epochs=4it", "schedule.warmup=0it", "checkpoint.every=2it"),
        f"run_dir={tmp_path}/run",
    ]
    assert command("hornet-train", *arguments)[0] == 0
    shutil.rmtree(tmp_path / "run/checkpoints/step_00000004")
    (root / "train/cat/5.png").unlink()
    code, _, err = command("hornet-train", *arguments)
    assert code == 2
    assert "12 images" in err
    assert "11 images" in err
    code, out, err = command("hornet-train", *arguments, "resume=force")
    assert code == 0, err
    assert "going on with other images" in out
    (root / "val/dog").rename(root / "val/fox")
    code, _, err = command("hornet-eval", f"checkpoint={tmp_path}/run")
    assert code == 2
    assert "1 of the 2 classes of the data are not among the 2 of the checkpoint (cat, dog): 'fox'" in err


@pytest.mark.long
def test_initial_weights_are_read_once(tmp_path: Path, command: Command) -> None:
    assert command("hornet-train", *TINY, "epochs=1it", f"run_dir={tmp_path}/first")[0] == 0
    lone = tmp_path / "init.safetensors"
    shutil.copy(tmp_path / "first/checkpoints/step_00000001/model.safetensors", lone)
    arguments = [
        *TINY,
        f"init_from={lone}",
        "checkpoint.every=1it",
        "checkpoint.keep=9",
        f"run_dir={tmp_path}/run",
    ]
    code, out, err = command("hornet-train", *arguments)
    assert code == 0, err
    assert f"starting from {lone}" in out
    shutil.rmtree(tmp_path / "run/checkpoints/step_00000006")
    lone.unlink()
    code, out, err = command("hornet-train", *arguments)
    assert code == 0, err
    assert "is not read" in out
    rows = tmp_path / "rows.txt"
    rows.write_text("3\n2\n1\n0\n")
    code, out, err = command(
        "hornet-train",
        *TINY,
        "epochs=1it",
        f"init_from={tmp_path}/first",
        f"init_map={rows}",
        f"run_dir={tmp_path}/map",
    )
    assert code == 0, err
    assert "by the class map" in out, "also where the heads are of one size"
    rows.write_text("3\n9\n1\n0\n")
    code, _, err = command(
        "hornet-train", *TINY, f"init_from={tmp_path}/first", f"init_map={rows}", f"run_dir={tmp_path}/no"
    )
    assert code == 2
    assert "class map does not fit" in err


def test_a_restart_takes_over_nothing(tmp_path: Path, command: Command) -> None:
    """Also where only checkpoints are left of the old run."""
    folder = tmp_path / "run"
    assert command("hornet-train", *TINY, f"run_dir={folder}")[0] == 0
    (folder / "config.yaml").unlink()
    assert command("hornet-train", *TINY, f"run_dir={folder}")[0] == 2
    code, out, err = command("hornet-train", *TINY, "epochs=1it", "resume=restart", f"run_dir={folder}")
    assert code == 0, err
    assert "run.old1" in out
    assert [path.name for path in folder.glob("checkpoints/step_*")] == ["step_00000001"]


def test_what_an_earlier_launcher_left_behind_hides_no_message() -> None:
    """RANK=3 without WORLD_SIZE: this process is alone, and has to print."""
    done = run("hornet-train", "foo=1", env={**os.environ, "RANK": "3"})
    assert done.returncode == 2
    assert "unknown key foo" in done.stderr


def test_a_port_in_use_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        launched = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
        done = run("hornet-train", *TINY, env={**os.environ, **launched, "MASTER_PORT": port})
    assert done.returncode == 2, done.stderr
    assert f"MASTER_PORT={port} is in use" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.long
def test_two_processes_do_not_train_in_one_folder(tmp_path: Path, command: Command) -> None:
    first = subprocess.Popen(
        resolve(("hornet-train", *TINY, "epochs=5000", f"run_dir={tmp_path}/run")), stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "run/metrics.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        for resume in ("auto", "restart"):
            arguments = [*TINY, "epochs=5000", f"run_dir={tmp_path}/run", f"resume={resume}"]
            code, _, err = command("hornet-train", *arguments)
            assert code == 2
            assert f"process {first.pid} on" in err
    finally:
        first.kill()
        first.wait()
    code, _, err = command("hornet-train", *TINY, "resume=restart", f"run_dir={tmp_path}/run")
    assert code == 0, err


def test_a_damaged_held_out_image_costs_no_training(tmp_path: Path, command: Command) -> None:
    root = tmp_path / "photos"
    for split in ("train", "val"):
        picture_folders(root / split, "cat", "dog", count=6)
    sound = (root / "val/dog/2.png").read_bytes()
    (root / "val/dog/2.png").write_bytes(b"damaged")
    arguments = [
        *("model=hornet_pico_gf", "data=folder", f"data.root={root}", "data.workers=0", "data.image_size=32"),
        *("batch_size=4", "epochs=3it", "schedule.warmup=0it", f"run_dir={tmp_path}/run"),
        "data.on_bad=error",
    ]
    code, _, err = command("hornet-train", *arguments)
    assert code == 2
    assert "val/dog/2.png" in err
    assert "data.on_bad=skip" in err
    (root / "val/dog/2.png").write_bytes(sound)
    code, out, err = command("hornet-train", *arguments)
    assert code == 0, err
    assert "step_00000003" in out, "goes on from the checkpoint of the step that was to be evaluated"
    assert [e["step"] for e in events(tmp_path / "run", "eval")] == [3, 3]
    assert "complete" in command("hornet-train", *arguments)[1]


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    plain = run("hornet-train", "precision=fp8")
    assert (plain.returncode, plain.stdout) == (2, "")
    assert plain.stderr.startswith("hornet-train: precision=fp8")
    assert plain.stderr.count("\n") == 1
    debugged = run("python", "-m", "hornet_train", "precision=fp8", env={"HORNET_DEBUG": "1", "PATH": ""})
    assert debugged.returncode != 0
    assert "Traceback" in debugged.stderr
