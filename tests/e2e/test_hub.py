"""Parquet files and tars, from the first step to an evaluation."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest
from helpers import events, run, torchrun
from shards import dataset, pictures, write_parquet, write_streams, write_tar

Command = Callable[..., tuple[int, str, str]]


def test_a_run_on_parquet_and_its_evaluation_on_tars(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = pictures()
    write_parquet(tmp_path / "set", "train", samples, named=False)
    write_parquet(tmp_path / "set", "val", samples[:6], named=False)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    done = run(
        "python",
        "-m",
        "hornet_train",
        "model=hornet_pico_7x7",
        "data=hub",
        f"data.name={tmp_path}/set",
        "data.image_size=32",
        "data.workers=0",
        "batch_size=6",
        "epochs=2it",
        "schedule.warmup=0it",
        "optim.lr=1e-3",
        f"run_dir={tmp_path}/run",
        env=environment,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert [event["count"] for event in events(tmp_path / "run", "eval")][-1] == 6
    write_tar(tmp_path / "tars" / "val-0.tar", samples[:2])  # not of every class
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    code, _, err = command("hornet-eval", f"checkpoint={tmp_path}/run", f"data.name={tmp_path}/tars/*.tar")
    assert (code, err) == (0, "")
    assert json.loads((tmp_path / "run/eval.json").read_text())["count"] == 2


@pytest.mark.long
def test_a_streamed_run_goes_on_where_it_was_and_keeps_its_streams(tmp_path: Path, command: Command) -> None:
    """4 shards to 2 workers, gone on with in mid-epoch, when it is the second worker's turn."""
    samples = pictures(24)
    (tmp_path / "set").mkdir()
    for k in range(4):
        dataset(samples[6 * k : 6 * k + 6]).to_parquet(tmp_path / "set" / f"train-{k:05d}-of-00004.parquet")
    write_parquet(tmp_path / "set", "val", samples[:6])
    arguments = [
        "model=hornet_pico_7x7",
        "data=hub",
        f"data.name={tmp_path}/set",
        "data.streaming=true",
        "data.shuffle_buffer=4",
        "data.image_size=32",
        "batch_size=6",
        "epochs=2",
        "schedule.warmup=0it",
        "optim.lr=1e-3",
        "log.every=1it",
        "checkpoint.every=1it",
        "checkpoint.keep=20",
    ]
    folder = tmp_path / "run"
    whole = run("hornet-train", *arguments, "data.workers=2", f"run_dir={folder}")
    assert (whole.returncode, whole.stderr) == (0, "")
    expected = [event["loss"] for event in events(folder, "train")]
    assert len(expected) == 8
    assert {event["count"] for event in events(folder, "eval")} == {6}
    for path in sorted((folder / "checkpoints").glob("step_*"))[3:]:  # as if killed in step 4
        shutil.rmtree(path)

    code, _, err = command("hornet-train", *arguments, "data.workers=1", f"run_dir={folder}")
    assert code == 2
    assert "1 processes, 2 workers, 6 images at once -> 1 processes, 1 workers, 6 images at once" in err
    assert "data.workers" in err
    code, _, err = command(
        "hornet-train", *arguments, "data.workers=2", "micro_batch_size=3", f"run_dir={folder}"
    )
    assert code == 2
    assert "micro_batch_size" in err
    code, _, err = command("hornet-train", *arguments, "data.workers=3", f"run_dir={tmp_path}/other")
    assert code == 2
    assert "4 shards cannot be shared out evenly" in err
    assert "data.workers=2 or data.workers=4 would do" in err

    again = run("hornet-train", *arguments, "data.workers=2", f"run_dir={folder}")
    assert (again.returncode, again.stderr) == (0, "")
    assert [event["step"] for event in events(folder, "resumed")] == [3]
    assert [event["loss"] for event in events(folder, "train")] == expected


@pytest.mark.parametrize("shards", [1, 3])
def test_ranks_evaluate_streams_of_other_lengths(tmp_path: Path, shards: int) -> None:
    """Of one shard to evaluate on the second rank has none; the training goes on after the evaluation."""
    write_streams(tmp_path / "set", train=2, val=shards)
    arguments = [
        "model=hornet_pico_7x7",
        "data=hub",
        f"data.name={tmp_path}/set",
        "data.streaming=true",
        "data.shuffle_buffer=4",
        "data.image_size=32",
        "data.workers=1",
        "batch_size=4",
        "epochs=1",
        "schedule.warmup=0it",
        "optim.lr=1e-3",
        "log.every=1it",
        "eval.every=1it",
        "eval.batch_size=3",
        "dist.timeout_minutes=0.5",
    ]
    done = torchrun(2, "-m", "hornet_train", *arguments, f"run_dir={tmp_path}/run")
    assert done.returncode == 0, done.stderr
    evaluations = [(event["step"], event["count"]) for event in events(tmp_path / "run", "eval")]
    assert evaluations == [(step, 8 * shards) for step in (1, 2, 3, 4) for _ in ("model", "ema")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], ["data.name is missing"]),
        (["data.name=nowhere/at/all"], ["data.name=nowhere/at/all does not exist"]),
        (["data.name=a/b", "data.val_split=train"], ["data.val_split=train: the training images"]),
        (["data.name=a/b/*.parquet", "data.revision=v1"], ["data.revision=v1", "is local"]),
        (["data.name=a/b", "data.splits=x"], ["data.splits", "did you mean"]),
    ],
)
def test_mistakes(tmp_path: Path, command: Command, arguments: list[str], message: list[str]) -> None:
    code, _, err = command("hornet-train", "data=hub", "batch_size=4", *arguments, f"run_dir={tmp_path}/run")
    assert code == 2
    for words in message:
        assert words in err
