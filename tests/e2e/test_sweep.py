"""`hornet-train --multirun`: several trainings by one command, one after the other (Slurm: tests/faults)."""

from __future__ import annotations

import csv
import importlib.util
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from helpers import TINY, events, run
from processes import has_logged, started, wait_until

Command = Callable[..., tuple[int, str, str]]


@pytest.mark.long
def test_each_combination_is_a_run_in_a_folder_of_its_name(tmp_path: Path) -> None:
    arguments = [
        *TINY,
        "epochs=1it",
        "model.args.scale=1,0.5",
        "init_from=null",
        "hydra.sweep.dir=runs/a scale",
    ]
    done = run("hornet-train", "--multirun", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folders = sorted(path for path in (tmp_path / "runs/a scale").iterdir() if path.is_dir())
    assert [folder.name for folder in folders] == ["++model.args.scale=0.5", "++model.args.scale=1"]
    for folder, scale in zip(folders, (0.5, 1), strict=True):
        assert yaml.safe_load((folder / "config.yaml").read_text())["model"]["args"] == {"scale": scale}
        assert [event["step"] for event in events(folder, "train")] == [1]
        assert not list(folder.glob(".hydra")) + list(folder.glob("*.log"))
    again = run("hornet-train", "-m", *arguments, cwd=tmp_path)
    assert again.stdout.count("this run is complete") == 2, again.stderr


@pytest.mark.faults
def test_a_sweep_that_is_asked_to_stop_goes_on(tmp_path: Path) -> None:
    arguments = ["-m", *TINY, "epochs=60", "eval.every=60ep", "seed=3,4", f"hydra.sweep.dir={tmp_path}"]
    process = started("hornet-train", *arguments)
    first = tmp_path / "seed=3"
    wait_until(process, has_logged(first, 3))
    os.kill(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 75, out + err
    assert not (tmp_path / "seed=4").exists()
    (event,) = events(first, "preempted")
    again = run("hornet-train", *arguments[:-2], "seed=3", arguments[-1], "hydra.sweep.subdir='seed=3'")
    assert again.returncode == 0, again.stderr
    assert events(first, "resumed")[0]["step"] == event["step"]


@pytest.mark.long
def test_what_fails_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    arguments = [*TINY, "epochs=1it", "data.train_count=8,40", f"hydra.sweep.dir={tmp_path}"]
    done = run("hornet-train", "-m", *arguments)
    assert done.returncode == 2
    assert "batch_size=16 is larger than the data set of 8" in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "exit code" in line]
    assert "data.train_count=8" in line
    best, failed = csv.DictReader((tmp_path / "ranking.csv").open())
    (top1,) = {max(event["top1"] for event in events(tmp_path / "data.train_count=40", "eval"))}
    assert (best["rank"], best["job"], best["data.train_count"]) == ("1", "1", "40")
    assert float(best["top1"]) == pytest.approx(top1, abs=1e-4)
    assert best["run_dir"] == str(tmp_path / "data.train_count=40")
    assert (failed["rank"], failed["job"], failed["exit_code"]) == ("", "0", "2")
    assert failed["reason"].startswith("batch_size=16 is larger than the data set of 8 training images: ")
    shown = [line.split() for line in done.stdout.splitlines() if str(tmp_path / "data.train_count") in line]
    assert [row[:3] for row in shown[-2:]] == [
        ["1", "1", "40"],
        ["0", "8", str(tmp_path / "data.train_count=8")],
    ]
    assert events(tmp_path / "data.train_count=40", "train")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["optim.lr=1e-3,x"], "optim.lr=x"),
        (["optim.rl=1e-3,2e-3"], "did you mean 'optim.lr'"),
        (["seed=0,1", "run_dir=one"], "below hydra.sweep.dir="),
        (["hydra/launcher=submitit_slrm"], "submitit_slrm"),
        (["optim.lr=interval(0,1)"], "INTERVAL"),
        (["data=folder", "data.root=/nope", "seed=0,1"], ": data.root=/nope does not exist"),
        (["data=folder", "data.root=/nope,/no", "seed=0,1"], "(of the job data.root=/nope seed=0)"),
        (["seed=0,1", "--cfg", "job"], "--cfg job prints the config of one training"),
        (["seed=0,1", "init_from=nope.pth"], "init_from=nope.pth: there is no such file or folder"),
    ],
)
def test_faults_are_reported_before_anything_starts(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = command("hornet-train", "--multirun", *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert not list(tmp_path.iterdir())


def test_what_a_launcher_needs_is_reported(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    slurm = ["hornet-train", "-m", "seed=0,1", "hydra/launcher=submitit_slurm"]
    monkeypatch.setattr(shutil, "which", lambda _: None)
    code, _, err = command(*slurm)
    assert code == 2
    assert "there is no sbatch here" in err
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "submitit" else find(name))
    code, _, err = command(*slurm)
    assert code == 2
    assert "pip install 'hornet-train[slurm]'" in err
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    code, _, err = command(*slurm)
    assert code == 2
    assert "not under torchrun" in err


def test_several_values_without_the_flag_name_it(command: Command) -> None:
    code, _, err = command("hornet-train", "optim.lr=1e-3,2e-3")
    assert code == 2
    assert "--multirun" in err


@pytest.mark.long
def test_paths_need_no_quotes(tmp_path: Path) -> None:
    """With `=`, `[`, `]` or a comma in them; a comma divides paths only where there is none of that name."""
    first = run("hornet-train", *TINY, "epochs=1it", f"run_dir={tmp_path}/first")
    assert first.returncode == 0, first.stderr
    weights = tmp_path / "first/checkpoints/step_00000001/model.safetensors"
    names = ["epoch=1 [a].safetensors", "one,file.safetensors"]
    for name in names:
        shutil.copy(weights, tmp_path / name)
    both = ",".join(f"{tmp_path}/{name}" for name in names)
    folder = tmp_path / "sweep=1,2"
    given = [*TINY, "epochs=1it", "--multirun", f"hydra.sweep.dir={folder}", f"init_from={both}"]
    done = run("hornet-train", *given)
    assert done.returncode == 0, done.stderr
    kept = {yaml.safe_load(file.read_text())["init_from"] for file in folder.rglob("config.yaml")}
    assert {Path(path).name for path in kept} == {*names}
