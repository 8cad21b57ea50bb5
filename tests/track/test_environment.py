"""environment.json says what ran, and no secret; files are replaced whole."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from hornet_train.track import environment as module
from hornet_train.track.environment import environment, git_state
from hornet_train.track.files import read_json, write_json, write_text


def test_environment_is_json_and_holds_no_environment_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "a-secret-value")
    write_json(tmp_path / "environment.json", environment(world_size=8, device="cuda"))
    text = (tmp_path / "environment.json").read_text()
    assert "a-secret-value" not in text
    read = json.loads(text)
    assert read["world_size"] == 8
    assert read["packages"]["torch"].startswith("2.")
    assert read["packages"]["hornet-train"]
    assert read["started"].endswith("+00:00")


def test_git_state_of_the_checkout_that_tracks_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        return subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "-q")
    (tmp_path / ".gitignore").write_text(".venv\n")
    (tmp_path / "a.py").write_text("1")
    git("add", ".")
    git("commit", "-qm", "one")
    assert git_state(tmp_path / "a.py") == {"commit": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "a.py").write_text("2")
    state = git_state(tmp_path / "a.py")
    assert state is not None
    assert state["dirty"] is True
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "b.py").write_text("1")
    assert git_state(tmp_path / ".venv" / "b.py") is None  # in the checkout, not of it
    monkeypatch.setenv("PATH", "")
    assert module.git_state(tmp_path / "a.py") is None


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"step": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"loss": float("nan")})

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="space"):
        write_json(path, {"step": 2})
    assert read_json(path) == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_a_damaged_json_is_named(tmp_path: Path) -> None:
    write_text(tmp_path / "x.json", '{"a": ')
    with pytest.raises(ValueError, match=r"x\.json: not valid JSON"):
        read_json(tmp_path / "x.json")
