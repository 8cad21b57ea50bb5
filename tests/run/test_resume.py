"""A run goes on only on the samples that it was trained on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from dense_task import dense_trainer

from hornet_train.engine.checkpoint import CheckpointStore, read_checkpoint
from hornet_train.errors import DataError
from hornet_train.run.resume import identity_changes, restore_state
from hornet_train.tasks.kit_types import Datasets


class Stored:
    """Samples of a number, distinguished by a name."""

    def __init__(self, count: int, name: str) -> None:
        self.count, self.fingerprint = count, name * 8

    def __len__(self) -> int:
        return self.count


def datasets(name: str = "a", **more: Any) -> Datasets:
    return Datasets(Stored(22, name), Stored(7, "v"), ("no", "yes"), **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the samples `a`."""
    import json

    folder = tmp_path_factory.mktemp("run")
    trainer = dense_trainer(folder, total_steps=2, checkpoint_every=2)
    trainer.store.texts = {"data.json": json.dumps(datasets().identity())}
    trainer.fit()
    newest, _ = CheckpointStore(folder / "checkpoints", keep=1).newest()
    assert newest is not None
    return newest


def test_the_same_samples_are_taken_up(saved: Path, tmp_path: Path) -> None:
    state = dense_trainer(tmp_path / "new", total_steps=4).state
    notes = restore_state(state, read_checkpoint(saved), datasets(), forced=False)
    assert state.step == 2
    assert notes == [f"going on from {saved}"]


def test_other_samples_are_refused_unless_forced(saved: Path, tmp_path: Path) -> None:
    state = dense_trainer(tmp_path / "new", total_steps=4).state
    with pytest.raises(DataError, match=r"other images .*train: 22 images, aaaaaaaa -> 22 images, bbbbbbbb"):
        restore_state(state, read_checkpoint(saved), datasets("b"), forced=False)
    assert state.step == 0
    state.fault_history.rollbacks = 2
    notes = restore_state(state, read_checkpoint(saved), datasets("b"), forced=True)
    assert state.step == 2
    assert any("going on with other images" in note for note in notes)


def test_only_what_the_older_one_says_is_compared() -> None:
    before = datasets().identity()
    now = datasets(dealt={"workers": 2}).identity()
    assert identity_changes(before, now) == {}
    assert identity_changes(now, before) == {"dealt": "2 workers -> none"}
    assert identity_changes(before, {**before, "classes": ["a"]}) == {"classes": "2 classes -> 1 classes"}
