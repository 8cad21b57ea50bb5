"""What continuous integration runs, and the targets of the Makefile, by a stand-in for make."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from helpers import BIN, ROOT

LONG = [f"test-{name} SHORT=1" for name in ("long", "dense", "accuracy", "faults", "timm")]
PARTS = ["install", "browser", "check", "test", *LONG]


def ci(folder: Path, failing: str = "none") -> subprocess.CompletedProcess[str]:
    """.ci/run where make writes down what it is asked for, and fails on one target."""
    make = folder / "make"
    make.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\n[ "$1" != {failing} ] || exit 3\n')
    make.chmod(0o755)
    path = os.pathsep.join([str(folder), os.environ["PATH"]])
    return subprocess.run(
        [str(ROOT / ".ci/run")],
        env={**os.environ, "PATH": path},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_all_parts_run_and_a_table_shows_their_seconds(tmp_path: Path) -> None:
    done = ci(tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "asked").read_text().splitlines() == PARTS
    table = done.stdout.partition("== seconds of each part\n")[2].splitlines()
    rows = [re.fullmatch(r"  (?:make )?(.*?) +\d+ s  (.*)", line) for line in table]
    assert [row and row.groups() for row in rows] == [
        *((part, "passed") for part in PARTS),
        ("total", "of at most 2700"),
    ]


def test_it_ends_with_the_first_part_that_fails(tmp_path: Path) -> None:
    done = ci(tmp_path, failing="test")
    assert done.returncode == 3
    assert (tmp_path / "asked").read_text().splitlines() == PARTS[:4]
    table = done.stdout.partition("== seconds of each part\n")[2]
    assert re.search(r"^  make check +\d+ s  passed$", table, re.MULTILINE)
    assert re.search(r"^  make test +\d+ s  failed with code 3$", table, re.MULTILINE)
    assert "accuracy" not in table
    assert "total" in table


@pytest.mark.parametrize("script", [".ci/run", "scripts/gpu_day.sh"])
def test_the_scripts_are_clean(script: str) -> None:
    done = subprocess.run(
        [str(BIN / "shellcheck"), str(ROOT / script)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert os.access(ROOT / script, os.X_OK)


@pytest.mark.parametrize("document", ["CONTRIBUTING.md", "tests/README.md"])
def test_the_make_targets_that_are_named_exist(document: str) -> None:
    named = set(re.findall(r"\bmake ([a-z][a-z-]*)", (ROOT / document).read_text()))
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {"test", "quick"} <= named
    assert named <= targets


def test_the_quick_tests_are_the_most_telling() -> None:
    """Published outputs, kill and resume, two ranks, an old run, composition; the target checks imports."""
    decorated = re.compile(r"^@pytest\.mark\.quick\n(?:(?:@|\s|\)|\]).*\n)*def (\w+)", re.MULTILINE)
    marked = {
        name for path in ROOT.glob("tests/**/test_*.py") for name in decorated.findall(path.read_text())
    }
    assert {
        "test_outputs_and_gradients_equal_the_reference",
        "test_killed_and_resumed_is_bit_identical",
        "test_two_processes_equal_one",
        "test_goes_on_bit_for_bit",
        "test_every_option_composes",
    } <= marked
    planned = subprocess.run(
        ["make", "-n", "quick", f"VENV={BIN.parent}"], cwd=ROOT, capture_output=True, text=True
    )
    assert "lint-imports" in planned.stdout
    assert "pytest -n 2" in planned.stdout
    assert "-m quick" in planned.stdout
