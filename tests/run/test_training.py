"""A training from its config to its result: what the caller gets, where events go, what is left behind."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from configs import compose_train
from helpers import TINY, events

from hornet_train.engine.distributed import World
from hornet_train.engine.preemption import Stop
from hornet_train.errors import ConfigError
from hornet_train.run.training import TrainResult, run_training
from hornet_train.tasks.table import kit_of
from hornet_train.track.console import NullConsole
from hornet_train.track.metric_table import MetricTable

ALONE = World(0, 1, torch.device("cpu"))


class Speaking(NullConsole):
    """A console that remembers."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def say(self, message: str) -> None:
        self.messages.append(message)

    warn = say


class Watching:
    """A sink that counts the events in metrics.jsonl when it is closed."""

    closed_with: list[int] = []  # noqa: RUF012 - of all of them

    def __init__(self, folder: Path, _table: MetricTable) -> None:
        self.folder = folder

    def write(self, event: Mapping[str, Any]) -> None:
        """Nothing."""

    def close(self) -> None:
        self.closed_with.append(len(events(self.folder, "eval")))


def trained(folder: Path | None, *overrides: str) -> tuple[TrainResult, list[str]]:
    console = Speaking()
    result = run_training(
        kit_of("classification"),
        compose_train([*TINY, *([f"run_dir={folder}"] if folder else []), *overrides]),
        world=ALONE,
        stop=Stop(None),
        make_console=lambda _kit, _run: console,
        more_sinks=[Watching],
    )
    return result, console.messages


def test_the_result_is_what_the_folder_holds_and_a_complete_run_is_left_alone(tmp_path: Path) -> None:
    handlers = list(logging.getLogger("hornet_train").handlers)
    result, messages = trained(tmp_path)
    assert (result.run_dir, result.step, result.total_steps) == (tmp_path, 6, 6)
    evaluations = events(tmp_path, "eval")
    assert result.metrics == {
        one["weights"]: {k: v for k, v in one.items() if k not in ("event", "weights", "epoch")}
        for one in evaluations[-2:]
    }
    assert result.best is not None
    assert result.best.value == max(one["top1"] for one in evaluations)
    assert any(message.startswith(f"best top1: {result.best.value:.2f}") for message in messages)
    assert Watching.closed_with == [len(evaluations)]  # closed last, after everything is written
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != ".lock"}
    again, messages = trained(tmp_path)
    assert again == result
    assert any("this run is complete at step 6" in message for message in messages)
    assert written == {path: path.stat().st_mtime_ns for path in written}
    assert logging.getLogger("hornet_train").handlers == handlers


def test_a_run_that_does_not_begin_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="larger than the data set"):
        trained(None, "batch_size=64")
    assert list(tmp_path.iterdir()) == []
    result, _ = trained(None)
    assert result.run_dir.parent == Path("runs")
    assert (result.run_dir / "checkpoints/last").exists()


def test_a_fault_leaves_the_folder_free_and_nothing_listening(tmp_path: Path) -> None:
    handlers = list(logging.getLogger("hornet_train").handlers)
    trained(tmp_path)
    with pytest.raises(ConfigError, match="seed"):
        trained(tmp_path, "seed=2")
    with pytest.raises(ConfigError, match="larger than the data set"):
        trained(tmp_path / "other", "batch_size=64")
    assert not (tmp_path / "other").exists()
    assert logging.getLogger("hornet_train").handlers == handlers
    result, _ = trained(tmp_path, "seed=2", "resume=restart")
    assert result.step == 6
