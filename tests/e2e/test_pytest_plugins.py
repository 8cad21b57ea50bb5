"""The plugins of tests/support, on a small suite of their own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

SUITE = """
import time
import pytest

@pytest.mark.draw(2)
@pytest.mark.parametrize("number", range(40))
def test_drawn(number): pass

@pytest.mark.long
@pytest.mark.parametrize("number", range(40))
def test_long(number): pass

def test_not_drawn(amount, test_seed):
    print("cases", amount(100, 30), "seed", test_seed)

def test_slow(): time.sleep(SLOW)
def test_last(): pass
"""


def suite(
    folder: Path, *arguments: str, slow: float = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The small suite, in a folder that is no repository."""
    (folder / "test_suite.py").write_text(SUITE.replace("SLOW", str(slow)))
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n  draw(count): some\n  long: long\n")
    names = ("order", "short_form", "time_limit", "xdist.plugin")
    plugins = [part for name in names for part in ("-p", name)]
    support = os.pathsep.join([str(ROOT / "tests/support"), os.environ.get("PYTHONPATH", "")])
    known = {name: value for name, value in os.environ.items() if name != "HORNET_TEST_SEED"}
    known |= {"PYTHONPATH": support, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "-p", "no:cacheprovider", "-v", "-s", *arguments],
        cwd=folder, env={**known, **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def drawn(done: subprocess.CompletedProcess[str], name: str = "drawn") -> set[str]:
    assert done.returncode == 0, done.stdout + done.stderr
    return set(re.findall(rf"test_{name}\[(\d+)\]", done.stdout))


def test_in_full_everything_runs(tmp_path: Path) -> None:
    done = suite(tmp_path)
    assert len(drawn(done)) == len(drawn(done, "long")) == 40
    assert "cases 100 seed 0" in done.stdout
    assert "short form" not in done.stdout


def test_a_seed_draws_the_same_part_again_and_another_one_another(tmp_path: Path) -> None:
    parts = [
        drawn(suite(tmp_path, "--short", "--test-seed=5")),
        drawn(suite(tmp_path, "--short", HORNET_TEST_SEED="5")),
        drawn(suite(tmp_path, "--short", "--test-seed=5", "-n", "2")),
        drawn(suite(tmp_path, "--short", "--test-seed=6")),
    ]
    assert [len(part) for part in parts] == [2, 2, 2, 2]
    assert parts[0] == parts[1] == parts[2] != parts[3]
    long = [drawn(suite(tmp_path, "--short", f"--test-seed={seed}"), "long") for seed in (5, 5, 6)]
    assert [len(part) for part in long] == [10, 10, 10]
    assert long[0] == long[1] != long[2]
    assert "HORNET_TEST_SEED=x is not a whole number" in suite(tmp_path, HORNET_TEST_SEED="x").stderr


def test_the_seed_is_of_the_commit_and_reported_again_after_a_failure(tmp_path: Path) -> None:
    asked = ["git", "-C", str(ROOT), "rev-parse", "--short=7", "HEAD"]
    commit = subprocess.run(asked, capture_output=True, text=True, check=False)
    if commit.returncode:
        pytest.skip("not in a git repository")
    seed = int(commit.stdout.strip(), 16)
    done = suite(tmp_path, "--short")
    assert f"short form, cases drawn by --test-seed={seed}\n" in done.stdout
    assert f"cases 30 seed {seed}" in done.stdout
    assert "the same cases again" not in done.stdout
    failed = suite(tmp_path, "--short", "--time-limit=0.2", slow=9)
    assert f"the same cases again: --short --test-seed={seed}" in failed.stdout


def test_a_test_beyond_its_limit_fails_alone(tmp_path: Path) -> None:
    done = suite(tmp_path, "--time-limit=0.2", slow=9)
    assert done.returncode == 1
    assert "took longer than --time-limit=0.2 seconds" in done.stdout
    assert "1 failed, 82 passed" in done.stdout
