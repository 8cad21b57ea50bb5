"""10,000 damaged files: the decoder neither crashes nor hangs, whatever the bytes."""

from __future__ import annotations

import subprocess
import sys

from helpers import ROOT

FUZZ = ROOT / "tests" / "support" / "fuzz_decoder.py"


def test_ten_thousand_mutated_files() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", str(FUZZ), "0", "10000"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    reached = done.stdout.splitlines()[-1] if done.stdout else "nothing"
    assert done.returncode == 0, f"ended with {done.returncode} at file {reached}: {done.stderr[-2000:]}"
    assert reached.startswith("done")
