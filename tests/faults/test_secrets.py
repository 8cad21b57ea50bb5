"""A training with secrets all around it, and no trace of them in what it leaves and says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers import events, run
from shards import dataset, pictures

pytestmark = pytest.mark.faults

PASSWORD = "correct-horse-42"
SECRETS = {
    "HF_TOKEN": "hf_QwErTyUiOpAsDfGhJkLzXcVbNm012345",
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}
SIGNATURE = "deadbeef0123deadbeef"


# A far place that two passwords open: fsspec's `memory`, filled before the command starts.
FILLED = """
import sys, fsspec
from pathlib import Path
data, name = Path(sys.argv[1]).read_bytes(), sys.argv[2]
for password in ("correct-horse-42", "correct-horse-42-new"):
    fsspec.filesystem("memory").pipe(f"/me:{password}@far/train.parquet", data)
sys.argv[:3] = [name]
from hornet_train.cli import evaluate, train
{"hornet-train": train, "hornet-eval": evaluate}[name].main()
"""


def test_a_run_keeps_and_tells_no_secret(tmp_path: Path) -> None:
    folder, data = tmp_path / "run", tmp_path / "train.parquet"
    dataset(pictures(24)).to_parquet(data)
    place = "@far/train.parquet"
    environment = {**os.environ, **SECRETS, "WANDB_MODE": "offline"}

    def call(command: str, *arguments: str) -> tuple[int, str]:
        done = run("python", "-c", FILLED, str(data), command, *arguments, env=environment)
        return done.returncode, done.stdout + done.stderr

    def train(password: str) -> tuple[int, str]:
        return call(
            "hornet-train", "data=hub", f"data.name=memory://me:{password}{place}", "data.val_split=null",
            "data.streaming=true", "data.workers=0", "data.image_size=32", "batch_size=8", "optim.lr=1e-3",
            "schedule.warmup=1it", "augment=none", "ema=none", "log.every=1it", "log=all", "epochs=1",
            f"log.wandb_name='https://x/?X-Amz-Signature={SIGNATURE}'", f"run_dir={folder}",
        )  # fmt: skip

    code, said = train(PASSWORD)
    assert code == 0, said
    assert len(events(folder, "train")) == 3
    again, more = train(f"{PASSWORD}-new")  # another password is no other run
    assert again == 0, more
    assert "this run is complete" in more
    refused, told = train("wrong-password-7")
    assert refused == 2
    assert f"data.name=memory://***{place}: there are no such files" in told
    hidden = [*SECRETS.values(), PASSWORD, "wrong-password-7", SIGNATURE]
    for secret in hidden:
        assert secret not in said + more + told
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
        assert f"memory://***{place}" in (folder / name).read_text()
    code, told = call("hornet-eval", f"checkpoint={folder}", "data.val_split=train")
    assert code == 2
    assert "is kept without its secrets: give data.name=" in told
    given = f"data.name=memory://me:{PASSWORD}{place}"
    code, told = call(
        "hornet-eval", f"checkpoint={folder}", given, "data.val_split=train", "data.train_split=x"
    )
    assert code == 0, told
    assert PASSWORD not in told + (folder / "eval.json").read_text()


def test_a_librarys_error_is_told_without_secrets(tmp_path: Path) -> None:
    code = (
        "from hornet_train.cli.command import run_command\n"
        "def work(_):\n"
        "    raise RuntimeError('GET https://me:correct-horse-42@host/?sig=deadbeef0123deadbeef failed')\n"
        "run_command(work, lambda given: given, [], needs_timm=False)\n"
    )
    done = run("python", "-c", code, cwd=tmp_path)
    assert done.returncode == 1
    assert "RuntimeError: GET https://***@host/?sig=*** failed" in done.stderr
    assert "correct-horse" not in done.stderr
