"""scripts/gpu_day.sh: its limits, by stand-ins for the commands; its environment; all of it on the CPU."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from helpers import ROOT, run

SCRIPT = str(ROOT / "scripts/gpu_day.sh")
PARTS = [
    "environment", "facts", "tests", "step eager inference", "step eager train", "step blocks inference",
    "step blocks train", "step compiled inference", "step compiled train", "limit hornet_pico_7x7",
    "limit hornet_pico_gf", "train digits", "evaluate digits", "draw shapes", "train segmentation",
    "evaluate segmentation", "train detection", "evaluate detection", "detectors",
    "deterministic hornet_pico_7x7",
    "deterministic hornet_pico_gf", "compile=blocks hornet_pico_7x7", "compile=true hornet_pico_7x7",
    "compile=blocks hornet_pico_gf", "compile=true hornet_pico_gf",
]  # fmt: skip


def gpu_day(
    out: Path, *arguments: str, python: Path | str = sys.executable
) -> subprocess.CompletedProcess[str]:
    """The script on the CPU, which takes its smallest sizes there."""
    return subprocess.run(
        [SCRIPT, "--device", "cpu", *arguments],
        env={**os.environ, "PYTHON": str(python), "OUT": str(out)},
        cwd=out.parent, capture_output=True, text=True, timeout=3600, check=False,
    )  # fmt: skip


def statuses(out: Path) -> dict[str, str]:
    """Part -> done, failed (code N) or time over."""
    rows = [
        re.fullmatch(r"(.+?) {2,}(.+?) +\d+ s", line)
        for line in (out / "status.txt").read_text().splitlines()
    ]
    return {row[1]: row[2] for row in rows if row}


def stand_in(folder: Path, commands: str) -> Path:
    """A python whose `environment` has `commands`, lines of sh, for our commands; else the real one."""
    command = folder / "command"
    command.write_text(f"#!/bin/sh\n{commands}\n")
    python = folder / "python3"
    python.write_text(
        "#!/bin/sh\n"
        'case "$2" in\n'
        f'environment) mkdir -p "$3/bin"; for name in python hornet-bench hornet-train hornet-eval; do'
        f' cp {command} "$3/bin/$name"; done;;\n'
        f'*) exec {sys.executable} "$@";;\n'
        "esac\n"
    )
    for path in (command, python):
        path.chmod(0o755)
    return python


def test_a_part_that_fails_or_takes_too_long_ends_no_other(tmp_path: Path) -> None:
    python = stand_in(
        tmp_path, 'echo "was asked: $*"; case "$*" in *modes=train*) sleep 100;; *digits*) exit 3;; esac'
    )
    done = gpu_day(tmp_path / "out", "--minutes", "0.5", python=python)
    assert done.returncode == 0, done.stderr
    found = statuses(tmp_path / "out")
    assert list(found) == PARTS
    for name, how in found.items():
        expected = (
            "time over" if name.endswith("train") else "failed (code 3)" if "digits" in name else "done"
        )
        assert how == expected, name
    assert "time over" in (tmp_path / "out/summary.md").read_text()
    assert "compile=true" in (tmp_path / "out/log.txt").read_text()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "summary.md", "results.json", "status.txt", "log.txt", "tests.txt",
    }  # fmt: skip


@pytest.mark.faults
def test_it_ends_within_its_minutes_whatever_hangs(tmp_path: Path) -> None:
    python = stand_in(tmp_path, "trap '' TERM; sleep 100 & wait; sleep 100")
    begin = time.monotonic()
    done = gpu_day(tmp_path / "out", "--minutes", "0.3", python=python)
    assert time.monotonic() - begin < 18
    assert done.returncode == 0, done.stderr
    found = statuses(tmp_path / "out")
    assert list(found) == PARTS
    assert {how for name, how in found.items() if name != "environment"} == {"time over"}


def test_mistakes_are_reported(tmp_path: Path) -> None:
    for arguments in (
        ["--minute", "3"],
        ["--minutes", "x"],
        ["--minutes"],
        ["--device", "tpu"],
        ["--wheels", "/none"],
    ):
        done = gpu_day(tmp_path / "out", *arguments)
        assert done.returncode == 2
        assert arguments[0] in done.stderr
    assert not (tmp_path / "out").exists()


def list_wheels(python: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Its list, made with that Python."""
    return run(SCRIPT, "--list-wheels", *arguments, env={**os.environ, "PYTHON": python})


def test_a_python_that_cannot_list_the_wheels_says_so(tmp_path: Path) -> None:
    (tmp_path / "have.txt").write_text("")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    done = list_wheels(str(tmp_path / "bare/bin/python"), str(tmp_path / "have.txt"))
    assert done.returncode == 2
    assert "hornet-train is not installed" in done.stderr
    assert "PYTHON=" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_wheels_to_bring_are_what_a_machine_lacks(tmp_path: Path) -> None:
    def listed(have: str) -> str:
        (tmp_path / "have.txt").write_text(have)
        done = list_wheels(sys.executable, str(tmp_path / "have.txt"))
        assert done.returncode == 0, done.stderr
        return done.stdout

    constraints = (ROOT / "constraints.txt").read_text()
    assert listed(constraints) == "# nothing is missing there\n"
    without = re.sub("(?m)^(hydra-core|antlr4-python3-runtime|pydantic_core)==.*\n", "", constraints)
    older = re.sub("(?m)^huggingface_hub==.*$", "huggingface_hub==1.0", without)
    fetch, build = listed(older.replace("pydantic==", "pydantic==2.0+old ")).splitlines()[1:]
    assert re.findall(r"(\S+)==", fetch) == ["hydra-core", "pydantic", "huggingface_hub", "pydantic_core"]
    assert build.endswith("wheels antlr4-python3-runtime==4.9.3")  # of which the index has no wheel
    everything = listed("")
    assert "numpy==" in everything
    assert not re.search(r" (torch|torchvision|triton|nvidia\S*|cuda\S*)==", everything)


def wheel(folder: Path, name: str, version: str, needs: str = "") -> None:
    """A wheel of one empty module."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", "")
        file.writestr(f"{info}/METADATA", metadata + (f"Requires-Dist: {needs}\n" if needs else ""))
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")


@pytest.mark.long
def test_wheels_are_installed_beside_the_torch_that_is_there(tmp_path: Path) -> None:
    copy, wheels = tmp_path / "copy", tmp_path / "wheels"
    (copy / "scripts").mkdir(parents=True)
    wheels.mkdir()
    shutil.copy(ROOT / "scripts/gpu_day.py", copy / "scripts")
    project = (ROOT / "pyproject.toml").read_text()
    (copy / "pyproject.toml").write_text(
        project.replace("dependencies = [", 'dependencies = [\n"made_up>=1",', 1)
    )
    wheel(wheels, "made_up", "1.5", needs="torch>=2.9")
    wheel(wheels, "torch", "99.0")
    made = run("python", str(copy / "scripts/gpu_day.py"), "environment", str(tmp_path / "venv"), str(wheels))
    assert made.returncode == 0, made.stdout + made.stderr
    python = str(tmp_path / "venv/bin/python")
    asked = (
        "import made_up; from importlib.metadata import version; print(version('torch'), made_up.__file__)"
    )
    done = run(python, "-c", asked)
    assert done.returncode == 0, done.stderr
    version, place = done.stdout.split()
    assert version == importlib.metadata.version("torch")
    assert place.startswith(str(tmp_path / "venv"))
    (wheels / "made_up-1.5-py3-none-any.whl").unlink()
    wheel(wheels, "made_up", "2.0", needs="torch>=99")  # that wants another torch does not get it
    refused = run(
        "python", str(copy / "scripts/gpu_day.py"), "environment", str(tmp_path / "other"), str(wheels)
    )
    assert refused.returncode != 0


@pytest.mark.faults
def test_every_part_runs_on_the_cpu(tmp_path: Path) -> None:
    done = gpu_day(tmp_path / "out", "--minutes", "60")
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "out/log.txt").read_text()
    assert statuses(tmp_path / "out") == dict.fromkeys(PARTS, "done"), log[-3000:]
    results = json.loads((tmp_path / "out/results.json").read_text())
    assert results["facts"]["missing"] == []
    for mode in ("inference", "train"):
        assert len(results[f"step_eager_{mode}"]["measured"]) == 4
        assert any("compiled" in way for way in results[f"step_compiled_{mode}"]["measured"][0]["tried"])
    assert results["digits"]["count"] == 21
    summary = (tmp_path / "out/summary.md").read_text()
    for message in (
        "test_convnext",
        "matrix products, the peak",
        "digits, evaluated: top1",
        "segmentation, evaluated: miou",
        "detection, evaluated: box AP",
        "roi_align, train, ours",
        "compile_blocks_hornet_pico_gf: 3 steps",
        "compile_true_hornet_pico_gf: 3 steps",
    ):
        assert message in summary
    assert re.search(r"\d+ skipped", summary)  # the tests that need a GPU
