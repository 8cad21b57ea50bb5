"""The run folder: whose it is, and the order of what happens to it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from configs import compose_train

from hornet_train.config.compose import to_yaml
from hornet_train.config.schema import Config
from hornet_train.engine.distributed import World
from hornet_train.errors import ConfigError
from hornet_train.run.folder import (
    check_run_folder,
    claim_run_folder,
    default_run_dir,
    held_folder,
    new_folder,
    occupied,
)

ALONE = World(0, 1, torch.device("cpu"))
COMPOSED = compose_train(["seed=3"])
SCHEMA = type(COMPOSED.config)


def started(folder: Path, tree: dict[str, Any] | None = None) -> Path:
    """A folder in which a run has begun."""
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text(to_yaml(tree or COMPOSED.tree))
    return folder


def test_a_folder_of_the_same_config_is_gone_on_in_and_of_another_refused(tmp_path: Path) -> None:
    folder = started(tmp_path / "run")
    check_run_folder(folder, COMPOSED.tree, "auto", SCHEMA)
    other = compose_train(["seed=4"]).tree
    with pytest.raises(ConfigError, match=r"holds a run with another config:\n    seed"):
        check_run_folder(folder, other, "auto", SCHEMA)
    check_run_folder(folder, other, "force", SCHEMA)
    assert "seed" in str(claim_run_folder(folder, other, "force", SCHEMA))


def test_a_restart_keeps_the_old_run_under_another_name(tmp_path: Path) -> None:
    folder = started(tmp_path / "run")
    (tmp_path / "run.old1").mkdir()
    note = claim_run_folder(folder, COMPOSED.tree, "restart", SCHEMA)
    assert note is not None
    assert note.endswith("run.old2")
    assert (tmp_path / "run.old2" / "config.yaml").exists()
    assert list(folder.iterdir()) == []


def test_a_restart_moves_nothing_that_is_of_no_run(tmp_path: Path) -> None:
    folder = started(tmp_path / "run")
    (folder / "train").mkdir()  # the data set, say
    check_run_folder(folder, COMPOSED.tree, "auto", SCHEMA)
    with pytest.raises(ConfigError, match=r"holds more than its run \(train\)"):
        check_run_folder(folder, COMPOSED.tree, "restart", SCHEMA)


def test_runs_that_start_in_the_same_second_have_a_folder_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda _: "now")
    with ThreadPoolExecutor(8) as starts:
        folders = list(starts.map(lambda _: new_folder(default_run_dir(COMPOSED)), range(20)))
    assert len(set(folders)) == 20
    assert folders[0].name.startswith("now_hornet_pico_gf_digits")
    assert all(folder.is_dir() for folder in folders)
    with held_folder(Path("other/now")) as folder:
        assert folder.is_dir()
    assert not Path("other").exists()


def test_an_occupied_folder_is_clean_and_nobody_else_s(tmp_path: Path) -> None:
    folder = started(tmp_path / "run")
    half_written = folder / "checkpoints" / ".step_00000005.writing"
    half_written.mkdir()
    code = (
        "import sys; from pathlib import Path; from hornet_train.run.folder import hold_run_folder\n"
        "hold_run_folder(Path(sys.argv[1]))"
    )
    other = [sys.executable, "-c", code, str(folder)]
    with occupied(folder, COMPOSED.tree, "auto", SCHEMA, world=ALONE) as note:
        assert note is None
        assert not half_written.exists()
        done = subprocess.run(other, capture_output=True, text=True, check=False)
        assert "another process trains in it" in done.stderr
        assert f"process {os.getpid()}" in done.stderr
    assert subprocess.run(other, check=False).returncode == 0


@pytest.mark.parametrize("kind", ["file", "checkpoints is a file", "no config"])
def test_what_is_no_run_folder_is_refused(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    if kind == "file":
        folder.write_text("")
    elif kind == "no config":
        (folder / "checkpoints").mkdir(parents=True)
    else:
        folder.mkdir()
        (folder / "checkpoints").write_text("")
    with pytest.raises(ConfigError, match=r"choose another|where a folder is needed"):
        check_run_folder(folder, COMPOSED.tree, "auto", SCHEMA)


def test_a_folder_of_something_else_is_told_of_or_refused(tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    for name in ("letters", "photos", ".bashrc"):
        (folder / name).touch()
    check_run_folder(folder, COMPOSED.tree, "auto", SCHEMA)
    note = claim_run_folder(folder, COMPOSED.tree, "auto", SCHEMA)
    assert note == f"run_dir={folder} is not empty (letters, photos): the run is written beside what is there"
    (folder / "metrics.jsonl").write_text("mine")
    for resume in ("auto", "restart"):
        with pytest.raises(ConfigError, match="has no run in it, but metrics"):
            check_run_folder(folder, COMPOSED.tree, resume, SCHEMA)
    (folder / ".lock").touch()  # of a run that was killed before it wrote its config
    check_run_folder(folder, COMPOSED.tree, "auto", SCHEMA)


def test_a_run_is_not_written_into_the_checkpoints_of_another(tmp_path: Path) -> None:
    """Its step folder has a config.yaml, too, and would be overwritten."""
    step = tmp_path / "run/checkpoints/step_00000006"
    step.mkdir(parents=True)
    for name in ("run/config.yaml", "run/checkpoints/step_00000006/config.yaml"):
        (tmp_path / name).write_text("{}")
    for place in (step, step.parent, step.parent / "new"):
        with pytest.raises(ConfigError, match=f"run_dir={tmp_path}/run goes on with it"):
            check_run_folder(place, {}, "restart", Config)
    moved = step.rename(tmp_path / "moved")
    (moved / "manifest.json").write_text("{}")
    with pytest.raises(ConfigError, match=f"init_from={moved} begins with its weights"):
        check_run_folder(moved, {}, "auto", Config)
