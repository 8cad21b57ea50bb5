"""Run timm's own tests of models, unchanged, on our models instead of timm's.

    python scripts/timm_suite.py [--short] [pytest's arguments]

With --short on the pico and tiny models alone.

Downloads the source distribution of the installed timm from the package index (its wheel has no tests) and
runs its tests/test_models.py. This file is also the pytest plugin that narrows `timm.list_models` to our
models: for every question, also those that name timm's modules. Tests of named models of timm's are left out.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

OURS = "hornet_"
SMALL = "hornet_pico or hornet_tiny"


def pytest_configure() -> None:
    """Before the tests are imported, which ask for the models then."""
    import timm

    import hornet_train  # noqa: F401 - registers

    everything = timm.list_models

    def ours(filter: Any = "", **options: Any) -> list[str]:
        found = everything(filter, **{**options, "module": ""})
        return [name for name in found if name.startswith(OURS)]

    timm.list_models = ours


def main(arguments: list[str]) -> int:
    """The exit status of pytest."""
    chosen = SMALL if "--short" in arguments else OURS
    arguments = [argument for argument in arguments if argument != "--short"]
    release = f"timm=={version('timm')}"
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "timm"]
        if status := subprocess.run([*pip, "--dest", folder, release]).returncode:
            sys.stderr.write(f"{release} could not be downloaded: this needs a package index\n")
            return status
        (archive,) = Path(folder).glob("timm-*.tar.gz")
        with tarfile.open(archive) as source:
            source.extractall(folder, filter="data")
        (tests,) = Path(folder).glob("timm-*/tests")
        pytest = [sys.executable, "-m", "pytest", "-q", "-p", Path(__file__).stem, "-c", os.devnull]
        options = ["--rootdir", str(tests), "-p", "no:cacheprovider", "-W", "ignore", "-k", chosen]
        path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
        command = [*pytest, *options, *arguments, str(tests / "test_models.py")]
        return subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": path}).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
