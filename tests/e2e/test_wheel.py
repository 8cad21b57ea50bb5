"""An installed wheel, away from the repo."""

from __future__ import annotations

import json
import shutil
import sysconfig
from pathlib import Path

import pytest
from helpers import ROOT, TINY, run


@pytest.mark.long
def test_an_installed_wheel_finds_its_conf(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(
        ROOT,
        source,
        ignore=shutil.ignore_patterns(
            ".git", ".venv*", "runs", "tests", "__pycache__", "*.egg-info", ".*_cache"
        ),
    )
    built = run("python", "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(source))
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("hornet_train-*.whl")

    environment = tmp_path / "environment"
    assert run("python", "-m", "venv", "--without-pip", str(environment)).returncode == 0
    (packages,) = environment.glob("lib/python*/site-packages")
    # the dependencies of this environment, but not its editable install of the repo
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    python = environment / "bin/python"
    installed = run(
        "python", "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)
    )
    assert installed.returncode == 0, installed.stderr

    empty = tmp_path / "empty"
    empty.mkdir()
    command = str(environment / "bin/hornet-train")
    where = run(str(python), "-c", "import hornet_train; print(hornet_train.__file__)", cwd=empty)
    assert where.stdout.startswith(str(packages))
    assert (packages / "hornet_train/conf/train.yaml").exists()
    done = run(command, *TINY, "epochs=1it", "run_dir=mine", cwd=empty)
    assert done.returncode == 0, done.stderr
    evaluated = run(str(environment / "bin/hornet-eval"), "checkpoint=mine", cwd=empty)
    assert evaluated.returncode == 0, evaluated.stderr
    assert json.loads((empty / "mine/eval.json").read_text())["count"] == 21
    assert json.loads((empty / "mine/environment.json").read_text())["git"] is None
