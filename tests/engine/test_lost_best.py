"""The best evaluation is always one whose checkpoint is on the disk, even if the disk was full before."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from dense_task import PerPixel, dense_trainer, scaled
from helpers import events

from hornet_train.engine import background
from hornet_train.engine import trainer as loop
from hornet_train.engine.checkpoint import CheckpointStore, read_checkpoint, read_pointer
from hornet_train.engine.guard import GuardSettings
from hornet_train.engine.state import TensorGroups
from hornet_train.engine.task import Loss
from hornet_train.engine.trainer import Trainer
from hornet_train.errors import CheckpointError
from hornet_train.run.open_weights import find_weights
from hornet_train.track.events import best_result, without_undone
from hornet_train.track.metric_table import MetricInfo, MetricTable
from hornet_train.track.sinks import read_events

VALUES = {2: 10.0, 4: 50.0, 6: 30.0, 8: 20.0}
Refuse = Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class Scripted(PerPixel):
    """The results of evaluations are those in `VALUES`, for the model and for its average."""

    step: Callable[[], int] = int
    fault: int = -1

    def loss(self, model: Any, batch: Any, rng: Any) -> Loss:
        return scaled(super().loss(model, batch, rng), float("nan") if self.step() == self.fault else 1.0)

    def _means(self, sums: Mapping[str, float]) -> dict[str, float]:
        return {**super()._means(sums), "pixel_accuracy": VALUES[self.step()]}


class Full(CheckpointStore):
    """A store on a disk that is full for the checkpoints whose numbers `refuse` accepts."""

    refuse: Refuse

    def save(self, tensors: TensorGroups, numbers: Mapping[str, Any]) -> Path:
        if self.refuse(numbers):
            raise CheckpointError("the disk is full")
        return super().save(tensors, numbers)


def made(folder: Path, refuse: Refuse, *, checkpoint_every: int = 2, keep: int = 1) -> Trainer:
    trainer = dense_trainer(
        folder, total_steps=8, eval_every=2, checkpoint_every=checkpoint_every, log_every=4, keep=keep
    )
    trainer.task = Scripted(step=lambda: trainer.state.step)
    trainer.store = Full(folder / "checkpoints", keep=keep)
    trainer.store.refuse = refuse
    trainer.__post_init__()
    return trainer


def at_step_four(numbers: Mapping[str, Any]) -> bool:
    return numbers["step"] == 4


def check_best(folder: Path, trainer: Trainer, step: int) -> None:
    """The best is that of `step` in memory, in the newest checkpoint, by the pointer, on the disk and by the
    events, of which figures are made."""
    assert trainer.state.best is not None
    assert (trainer.state.best.step, trainer.state.best.value) == (step, VALUES[step])
    shown = best_result(without_undone(read_events(folder / "metrics.jsonl")), trainer.metrics)
    assert shown is not None
    assert (shown.step, shown.value) == (step, VALUES[step])
    checkpoints = folder / "checkpoints"
    newest, _ = CheckpointStore(checkpoints, keep=1).newest()
    assert newest is not None
    saved = read_checkpoint(newest).numbers["best"]
    assert (saved["step"], saved["value"]) == (step, VALUES[step])
    assert read_pointer(checkpoints, "best") == f"step_{step:08d}"
    found = find_weights(folder, None)
    assert found.step == step
    assert found.name == trainer.state.best.weights
    torch.testing.assert_close(
        found.tensors, read_checkpoint(checkpoints / f"step_{step:08d}").tensors[found.name], rtol=0, atol=0
    )


def test_the_metric_table_says_which_is_the_best(tmp_path: Path) -> None:
    """For the checkpoint as for figures: here less is better."""
    trainer = made(tmp_path, lambda _: False)
    trainer.metrics = MetricTable((MetricInfo("pixel_accuracy", "error", direction="min"),))
    trainer.fit()
    check_best(tmp_path, trainer, 2)
    trainer = made(tmp_path / "other", lambda _: False)
    trainer.metrics = MetricTable((MetricInfo("mean_iou", "mean IoU"),))
    with pytest.raises(ValueError, match=r"'mean_iou'.*pixel_accuracy"):
        trainer.fit()


@pytest.mark.parametrize("keep", [1, 9])
def test_a_best_that_was_never_written_does_not_beat_later_ones(
    tmp_path: Path, keep: int, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = made(tmp_path, at_step_four, keep=keep)
    best = trainer.fit()
    assert best == trainer.state.best
    check_best(tmp_path, trainer, 6)
    expected = (2, 6, 8) if keep == 9 else (6, 8)
    assert [path.name for path in trainer.store.step_folders()] == [f"step_{step:08d}" for step in expected]
    assert "the checkpoint of step 4, the best, was never written: the best is that of step 2" in caplog.text
    assert [event["checkpoint"] for event in events(tmp_path, "checkpoint_failed")] == [4, 4]


def test_it_stays_the_best_while_it_may_still_be_written(tmp_path: Path) -> None:
    """The evaluation after it is worse, and no checkpoint is due; the one at the end takes its place."""
    trainer = made(tmp_path, at_step_four, checkpoint_every=8)
    bests = []
    trainer.advance = lambda _: bests.append(trainer.state.best and trainer.state.best.step)
    trainer.fit()
    assert bests == [None, None, 2, 2, 4, 4, 4, 4]
    check_best(tmp_path, trainer, 8)


def test_one_that_is_written_at_last_is_the_best(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_RETRY_SECONDS", 0.0)
    tries = []

    def twice(numbers: Mapping[str, Any]) -> bool:
        tries.append(numbers["step"])
        return numbers["step"] == 4 and tries.count(4) <= 2

    trainer = made(tmp_path, twice, checkpoint_every=8)
    trainer.advance = lambda _: trainer.saver.finish_write()  # so that each step finds the outcome of a try
    trainer.fit()
    assert tries.count(4) == 3
    check_best(tmp_path, trainer, 4)


def test_one_whose_weights_were_written_before_its_evaluation_is_the_best(tmp_path: Path) -> None:
    """The checkpoint of step 4 is on the disk, but not as it was to be written after its evaluation."""
    trainer = made(tmp_path, lambda numbers: numbers["step"] == numbers["evaluated"] == 4)
    trainer.fit()
    check_best(tmp_path, trainer, 4)
    assert read_checkpoint(tmp_path / "checkpoints/step_00000004").numbers["evaluated"] == 2


def test_of_several_that_were_never_written_none_is_the_best(tmp_path: Path) -> None:
    """10 and 50 are lost; 30, the first that is written, is the best."""
    trainer = made(tmp_path, lambda numbers: numbers["step"] < 6)
    trainer.fit()
    check_best(tmp_path, trainer, 6)


def test_it_falls_back_to_an_older_one_of_which_the_disk_has_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Step 2 was written before its evaluation only; 50 is lost, and 10 better than what follows."""
    monkeypatch.setitem(VALUES, 6, 5.0)
    monkeypatch.setitem(VALUES, 8, 6.0)
    trainer = made(tmp_path, lambda numbers: numbers["evaluated"] == 2 or numbers["step"] == 4)
    trainer.fit()
    check_best(tmp_path, trainer, 2)


def test_going_back_gives_it_up(tmp_path: Path) -> None:
    """The fifth step is no number: the run goes back to step 2, and what was to be written is not."""
    trainer = made(tmp_path, at_step_four, keep=9)
    trainer.settings = replace(trainer.settings, guard=GuardSettings(max_skips=1))
    trainer.task = Scripted(step=lambda: trainer.state.step, fault=4)
    trainer.__post_init__()
    trainer.fit()
    assert [event["step"] for event in events(tmp_path, "rollback")] == [2]
    check_best(tmp_path, trainer, 6)
    assert [path.name for path in trainer.store.step_folders()] == [f"step_{step:08d}" for step in (2, 6, 8)]


@pytest.mark.parametrize("killed_at", [5, 7])
def test_a_run_that_goes_on_knows_it_too(tmp_path: Path, killed_at: int) -> None:
    """Killed before a newer checkpoint took its place: it is made again; and after that."""
    trainer = made(tmp_path, at_step_four)

    def advance(step: int) -> None:
        if step == killed_at:
            raise KeyboardInterrupt

    trainer.advance = advance
    with pytest.raises(KeyboardInterrupt):
        trainer.fit()
    trainer = made(tmp_path, lambda _: False)
    assert trainer.state.step == (2 if killed_at == 5 else 6)
    trainer.fit()
    check_best(tmp_path, trainer, 4 if killed_at == 5 else 6)


def test_the_best_of_the_end_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step 8 is the best, and the disk takes it late; or never, which ends the run."""
    monkeypatch.setattr(loop, "RETRY_SECONDS_AT_END", 30.0)
    monkeypatch.setitem(VALUES, 8, 99.0)
    tries = []

    def late(numbers: Mapping[str, Any]) -> bool:
        tries.append(numbers["evaluated"])
        return numbers["evaluated"] == 8 and tries.count(8) < 3

    trainer = made(tmp_path / "late", late)
    trainer.fit()
    check_best(tmp_path / "late", trainer, 8)
    monkeypatch.setattr(loop, "RETRY_SECONDS_AT_END", 0.0)
    trainer = made(tmp_path / "never", lambda numbers: numbers["step"] == 8)
    with pytest.raises(CheckpointError, match="the checkpoint of step 8 is lost"):
        trainer.fit()
    assert read_pointer(tmp_path / "never/checkpoints", "best") == "step_00000004"


def test_a_folder_that_cannot_be_listed_for_a_moment_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = made(tmp_path, lambda _: False)

    def has(_step: int) -> bool:
        raise CheckpointError("checkpoints cannot be read (Stale file handle)")

    monkeypatch.setattr(trainer.store, "has", has)
    trainer.fit()
    check_best(tmp_path, trainer, 4)
