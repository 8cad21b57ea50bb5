"""A training with secrets all around it, and no trace of them in what it leaves and says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import events, run
from shards import dataset, pictures

pytestmark = pytest.mark.faults
Command = Callable[..., tuple[int, str, str]]

PASSWORD = "correct-horse-42"
SECRETS = {
    "HF_TOKEN": "hf_QwErTyUiOpAsDfGhJkLzXcVbNm012345",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}
SIGNATURE = "deadbeef0123deadbeef"


# A far place that two passwords open: fsspec's `memory`, filled before the command starts.
FILL = """
import fsspec
def fill(data):
    for password in ("correct-horse-42", "correct-horse-42-new"):
        fsspec.filesystem("memory").pipe(f"/me:{password}@far/train.parquet", data)
"""
START = f"""{FILL}
import sys
from pathlib import Path
from hornet_train.cli.train import main
fill(Path(sys.argv.pop(1)).read_bytes())
main()
"""
PLACE = "@far/train.parquet"


def test_a_run_keeps_and_shows_no_secret(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, data = tmp_path / "run", tmp_path / "train.parquet"
    dataset(pictures(24)).to_parquet(data)
    for name, value in {**SECRETS, "WANDB_MODE": "offline"}.items():
        monkeypatch.setenv(name, value)

    def arguments(password: str) -> list[str]:
        return [
            "data=hub", f"data.name=memory://me:{password}{PLACE}", "data.val_split=null",
            "data.streaming=true", "data.workers=0", "data.image_size=32", "batch_size=8", "optim.lr=1e-3",
            "schedule.warmup=1it", "augment=none", "ema=none", "log.every=1it", "log=all", "epochs=1",
            f"log.wandb_name='https://x/?X-Amz-Signature={SIGNATURE}'", f"run_dir={folder}",
        ]  # fmt: skip

    done = run("python", "-c", START, str(data), *arguments(PASSWORD))
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert len(events(folder, "train")) == 3
    exec(FILL, filled := dict[str, Any]())
    filled["fill"](data.read_bytes())
    code, out, err = command("hornet-train", *arguments(f"{PASSWORD}-new"))  # which is no other run
    assert code == 0, err
    assert "this run is complete" in out
    said += out + err
    code, out, err = command("hornet-train", *arguments("wrong-password-7"))
    assert code == 2
    assert f"data.name=memory://***{PLACE}: there are no such files" in err
    said += out + err
    code, out, err = command("hornet-eval", f"checkpoint={folder}", "data.val_split=other")
    assert code == 2
    assert "is kept without its secrets: give data.name=" in err
    hidden = [*SECRETS.values(), PASSWORD, "wrong-password-7", SIGNATURE]
    for secret in hidden:
        assert secret not in said + out + err
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {"config.yaml", "environment.json", "metrics.jsonl", "model.safetensors"} <= {
        p.name for p in files
    }
    assert any(path.suffix == ".wandb" for path in files)
    assert any("tfevents" in path.name for path in files)
    for path in files:
        content = path.read_bytes()
        for secret in hidden:
            assert secret.encode() not in content, path
    for name in ("config.yaml", "environment.json"):
        assert f"memory://***{PLACE}" in (folder / name).read_text()


def test_a_librarys_error_is_reported_without_secrets(tmp_path: Path) -> None:
    code = (
        "from hornet_train.cli.command import run_command\n"
        "def work(_):\n"
        "    raise RuntimeError('GET https://me:correct-horse-42@host/?sig=deadbeef0123deadbeef failed')\n"
        "run_command(work, lambda given: given, [])\n"
    )
    done = run("python", "-c", code, cwd=tmp_path)
    assert done.returncode == 1
    assert "RuntimeError: GET https://***@host/?sig=*** failed" in done.stderr
    assert "correct-horse" not in done.stderr
