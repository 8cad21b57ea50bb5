"""Ctrl-C while a command is still being imported."""

from __future__ import annotations

import signal
import subprocess
import sys

PROGRAM = """
import os, signal, sys
sys.argv[0] = {name!r}
import hornet_train
os.kill(os.getpid(), signal.SIGINT)
"""


def _not_ignored() -> None:
    """A shell starts its background jobs, and what these start, with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_it_ends_a_command_without_a_traceback() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(name="/usr/bin/hornet-eval")],
        capture_output=True, text=True, check=False, preexec_fn=_not_ignored,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "hornet-eval: interrupted\n")


def test_a_program_that_imports_the_package_keeps_its_own_way() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(name="my_script.py")],
        capture_output=True, text=True, check=False, preexec_fn=_not_ignored,
    )  # fmt: skip
    assert "KeyboardInterrupt" in ended.stderr
