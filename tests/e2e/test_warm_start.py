"""A command by the server of tests/support/warm_start.py is what it is by itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch
import warm_start
from helpers import TINY, events, run, torchrun
from processes import final


def untimed(folder: Path) -> list[dict[str, object]]:
    timed = ("images_per_second", "data_wait")
    return [{key: value for key, value in event.items() if key not in timed} for event in events(folder)]


@pytest.mark.long
def test_a_run_is_the_same(tmp_path: Path) -> None:
    """In bits, in what is said, and in the folder that it runs in."""
    done = {}
    for name, fresh in (("warm", False), ("fresh", True)):
        (tmp_path / name).mkdir()
        done[name] = run("hornet-train", *TINY, "run_dir=run", cwd=tmp_path / name, fresh=fresh)
        assert done[name].returncode == 0, done[name].stderr
    one, two = tmp_path / "warm/run", tmp_path / "fresh/run"
    torch.testing.assert_close(final(one), final(two), rtol=0, atol=0)
    assert untimed(one) == untimed(two)
    first, second = (done[name].stdout.splitlines()[:4] for name in ("warm", "fresh"))
    assert first == second
    assert done["warm"].stderr == done["fresh"].stderr == ""


def test_a_launcher_has_ranks_and_exit_codes(tmp_path: Path) -> None:
    script = tmp_path / "rank.py"
    script.write_text(
        "import os, sys\n"
        "print(os.environ['RANK'], os.environ['WORLD_SIZE'], os.environ['LOCAL_RANK'], sys.argv[1:])\n"
        "sys.exit(3 if sys.argv[1] == 'fails' and os.environ['RANK'] == '1' else 0)\n"
    )
    done = torchrun(2, str(script), "x y")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["0 2 0 ['x y']", "1 2 1 ['x y']"]
    failed = torchrun(2, str(script), "fails")
    assert failed.returncode == 1
    assert "exitcode  : 3" in failed.stderr


def test_it_is_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is a GPU")
    assert warm_start.server_for(("hornet-info",)) is not None  # what earlier tests set is taken back
    refused = run("hornet-train", "batch_size=x")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("hornet-train: batch_size=x: ")
    with pytest.raises(subprocess.TimeoutExpired):
        run("hornet-train", *TINY, "epochs=1000", f"run_dir={tmp_path}/long", timeout=1)
    again = run("hornet-train", "batch_size=x")
    assert again.stderr == refused.stderr
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # read at import: not by the server
    assert warm_start.server_for(("hornet-train",)) is None
