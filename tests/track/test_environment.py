"""environment.json describes the run without secrets; files are replaced atomically."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

import pytest

from hornet_train.track import checkout
from hornet_train.track.checkout import git_state, uncommitted_changes
from hornet_train.track.durable_files import read_json, write_json, write_text
from hornet_train.track.environment import cpu_model, driver, environment, libraries


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
    assert read["packages"]["pyyaml"]  # of everything that is installed
    assert list(read["packages"]) == sorted(read["packages"])
    assert read["threads"] >= 1
    assert read["cpu"]
    assert read["math"]["capability"]
    assert read["variables"]["OMP_NUM_THREADS"] == "1"
    assert read["started"].endswith("+00:00")


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    return subprocess.run(
        ["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True, errors="replace"
    ).stdout.strip()


def committed(folder: Path) -> Path:
    """A checkout with a package of one module, a binary file and something that git ignores."""
    (folder / "package").mkdir(parents=True)
    git(folder, "init", "-q")
    (folder / ".gitignore").write_text(".venv\n")
    (folder / "package" / "a.py").write_text("1\n")
    (folder / "data.bin").write_bytes(bytes(range(256)))
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    return folder / "package" / "a.py"


def test_git_state_of_the_checkout_that_tracks_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = committed(tmp_path)
    assert git_state(module) == {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    module.write_text("2")
    state = git_state(module)
    assert state is not None
    assert state["dirty"] is True
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "b.py").write_text("1")
    assert git_state(tmp_path / ".venv" / "b.py") is None  # in the checkout, not of it
    monkeypatch.setenv("PATH", "")
    assert git_state(module) is None


def test_the_commit_and_the_diff_restore_the_code(tmp_path: Path) -> None:
    checkout_folder, run = tmp_path / "there", tmp_path / "run"
    module = committed(checkout_folder)
    run.mkdir()
    git(checkout_folder, "config", "diff.noprefix", "true")
    git(checkout_folder, "config", "color.ui", "always")
    module.write_bytes(b"caf\xe9\r\n")  # not UTF-8
    (checkout_folder / "data.bin").write_bytes(bytes(reversed(range(256))))
    (checkout_folder / "new.py").write_text("3\n")
    git(checkout_folder, "add", "new.py")
    (checkout_folder / "package" / "un\u00e9.py").write_text("4\n")
    found = uncommitted_changes(module, run)
    assert (found["untracked"], found["untracked_in_all"]) == (["package/un\u00e9.py"], 1)
    kept = (run / "uncommitted.diff").read_bytes()
    assert found["diff"] == {
        "bytes": len(kept),
        "sha256": hashlib.sha256(kept).hexdigest(),
        "file": "uncommitted.diff",
    }
    back = tmp_path / "back"
    git(tmp_path, "clone", "-q", str(checkout_folder), str(back))
    git(back, "apply", str(run / "uncommitted.diff"))
    for name in ("package/a.py", "data.bin", "new.py"):
        assert (back / name).read_bytes() == (checkout_folder / name).read_bytes()

    assert uncommitted_changes(module, run) == found  # another start with the same changes
    module.write_text("5\n")
    later = uncommitted_changes(module, run)["diff"]
    assert later["file"] == "uncommitted.2.diff"
    assert (run / "uncommitted.diff").read_bytes() == kept
    assert uncommitted_changes(module, None)["diff"] == {name: later[name] for name in ("bytes", "sha256")}


def test_a_large_diff_is_described_but_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = committed(tmp_path / "there")
    module.write_text("".join(f"{number}\n" for number in range(1000)))
    monkeypatch.setattr(checkout, "MAX_DIFF_BYTES", 4000)
    monkeypatch.setattr(checkout, "MAX_UNTRACKED", 2)
    for name in "abc":
        (module.parent / name).touch()
    found = uncommitted_changes(module, tmp_path)
    assert found["diff"]["why"] == "more than 4,000 bytes are not kept"
    assert found["diff"]["bytes"] > 4000
    assert len(found["diff"]["sha256"]) == 64
    assert (found["untracked"], found["untracked_in_all"]) == (["package/a", "package/b"], 3)
    assert not list(tmp_path.glob("*.diff"))
    git(tmp_path / "there", "checkout", "--", ".")
    assert uncommitted_changes(module, tmp_path)["diff"] is None
    monkeypatch.setenv("PATH", "")
    assert uncommitted_changes(module, tmp_path)["diff"] == {"why": "git diff gave no answer"}


def test_versions_of_driver_processor_and_libraries(tmp_path: Path) -> None:
    file = tmp_path / "version"
    assert driver(file) is None
    for text in (
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  535.104.05  Release Build  (x@y)  Sat\n",
    ):
        file.write_text(text)
        assert driver(file) == "535.104.05"
    file.write_text("processor : 0\nmodel name\t: A CPU\nprocessor : 1\nmodel name\t: A CPU\n")
    assert cpu_model(file) == "A CPU"
    assert cpu_model(tmp_path / "none")
    assert libraries("nothing") == {"mkl": None, "onednn": None, "openmp": None, "blas": None}


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
