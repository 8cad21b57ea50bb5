"""What a person sees, on a terminal and in a log; Weights & Biases through the real package."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import TINY, events, resolve, run


@pytest.mark.long
def test_on_a_terminal_there_is_a_panel_and_a_bar(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = resolve(("hornet-train", *TINY, f"run_dir={tmp_path}/run"))
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    chunks = []
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        chunks.append(chunk)
    assert process.wait() == 0
    screen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", b"".join(chunks).decode())
    for message in (
        "480,336 parameters",
        "learning rate",
        "6/6",
        "loss",
        "top1",
        "img/s",
        "data",
        "best top1",
    ):
        assert message in screen, message


def test_help_and_config_need_no_torch(tmp_path: Path) -> None:
    """They answer at once: what takes seconds to import is not imported."""
    for arguments in (["--help"], ["--cfg", "job"], ["--version"]):
        script = (
            "import sys; from hornet_train.cli.train import main\n"
            f"try: main({arguments!r})\n"
            "finally: assert not {'torch', 'timm', 'sklearn', 'wandb'} & set(sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout
    shown = run("hornet-train", "--help").stdout
    for group in ("model", "data", "augment", "optim", "schedule", "ema", "dist", "log", "task", "recipe"):
        assert re.search(rf"^  {group} ", shown, re.MULTILINE), group
    assert len(re.findall(r"^  # ", shown, re.MULTILINE)) == 14
    assert "hornet-eval checkpoint=" in run("hornet-eval", "--help").stdout
    assert "lr: 0.004" in run("hornet-train", "--cfg", "job").stdout


@pytest.mark.long
def test_wandb_offline_is_one_run_across_a_resume(tmp_path: Path) -> None:
    environment = {**os.environ, "WANDB_MODE": "offline", "HOME": str(tmp_path)}
    folder = tmp_path / "run"
    arguments = [
        "hornet-train",
        *TINY,
        f"run_dir={folder}",
        "log=wandb",
        "checkpoint.every=1it",
        "checkpoint.keep=9",
    ]
    first = run(*arguments, env=environment, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    identity = json.loads((folder / "wandb_run.json").read_text())
    for path in sorted((folder / "checkpoints").glob("step_*"))[4:]:
        subprocess.run(["rm", "-r", str(path)], check=True)
    second = run(*arguments, env=environment, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert json.loads((folder / "wandb_run.json").read_text())["id"] == identity["id"]
    parts = list((folder / "wandb").glob("offline-run-*"))
    assert len(parts) == 2
    assert all(path.name.endswith(identity["id"]) for path in parts)
    assert not (tmp_path / "wandb").exists(), "nothing lands in the working directory"
    assert [event["step"] for event in events(folder, "train")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.long
def test_wandb_that_fails_does_not_stop_the_training(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "wandb.py").write_text("raise RuntimeError('the service is down')\n")
    environment = {**os.environ, "PYTHONPATH": str(broken)}
    plain = run("hornet-train", *TINY, "epochs=1it", f"run_dir={tmp_path}/plain", env=environment)
    assert plain.returncode == 0, "not imported where it is not asked for"
    assert plain.stderr == ""
    done = run("hornet-train", *TINY, f"run_dir={tmp_path}/run", "log=wandb", env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the service is down") == 1
    assert len(events(tmp_path / "run", "train")) == 6
