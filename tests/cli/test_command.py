"""How a command ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import torchrun

PROGRAM = """
import atexit
from hornet_train.cli.command import run_command
from hornet_train.errors import ConfigError

class Late:
    def __del__(self):
        print("taken apart")

late = Late()

def work(_):
    atexit.register(print, "atexit")
    print("worked")
    {then}

run_command(work, lambda given: given, [])
"""


@pytest.mark.parametrize(
    ("then", "code"), [("pass", 0), ("raise ConfigError(['no'])", 2), ("raise RuntimeError('bug')", 1)]
)
@pytest.mark.parametrize("processes", ["1", "2"])
def test_one_of_several_processes_is_not_taken_apart(processes: str, then: str, code: int) -> None:
    """In which a late thread of Gloo would abort it; all else that Python does at the end is done."""
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(then=then)],
        env={**os.environ, "WORLD_SIZE": processes, "RANK": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    after = ["taken apart"] if processes == "1" else []
    assert (ended.returncode, ended.stdout.split("\n")[:-1]) == (code, ["worked", "atexit", *after])
    assert ("RuntimeError: bug" in ended.stderr) == (code == 1)


def test_the_message_comes_before_the_launcher_kills_all(tmp_path: Path) -> None:
    """Rank 0 is the one that prints it, also if it is the last to find out."""
    script = tmp_path / "late.py"
    script.write_text(
        "import os, time\n"
        "from hornet_train.cli.command import run_command\n"
        "from hornet_train.errors import ConfigError\n"
        "def work(_):\n"
        "    time.sleep(2 * (os.environ['RANK'] == '0'))\n"
        "    raise ConfigError(['mistaken'])\n"
        "run_command(work, lambda given: given, [])\n"
    )
    ended = torchrun(2, str(script), fresh=True)
    assert ended.returncode != 0
    assert ended.stderr.count("late.py: mistaken") == 1
