"""A run is built from its config alone: the same each time, and where its newest checkpoint stands."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from configs import compose_train
from helpers import TINY

from hornet_train.config.compose import Composed
from hornet_train.engine.checkpoint import read_checkpoint
from hornet_train.engine.distributed import World
from hornet_train.engine.find_checkpoint import followed
from hornet_train.errors import ConfigError
from hornet_train.run.build import Run, build_run
from hornet_train.tasks.table import kit_of

ALONE = World(0, 1, torch.device("cpu"))


def built(folder: Path, *overrides: str, world: World = ALONE) -> Run:
    composed: Composed[object] = compose_train([*TINY, *overrides], world_size=world.size)
    config = composed.config
    return build_run(kit_of("classification"), config, composed.tree, world=world, folder=folder)  # type: ignore[arg-type]


def test_a_run_of_one_seed_begins_alike_and_another_one_otherwise(tmp_path: Path) -> None:
    torch.manual_seed(9)  # what was drawn before does not matter
    first = built(tmp_path / "a")
    second, other = built(tmp_path / "b"), built(tmp_path / "c", "seed=1")
    assert first.resumed_from is None
    assert list(tmp_path.iterdir()) == []  # nothing is written yet
    weights = [run.trainer.state.model.state_dict() for run in (first, second, other)]
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    assert not torch.equal(weights[0]["head.weight"], weights[2]["head.weight"])
    average = first.trainer.state.average
    assert average is not None
    torch.testing.assert_close(average.module.state_dict(), weights[0], rtol=0, atol=0)


def test_it_stands_where_its_newest_checkpoint_stands(tmp_path: Path) -> None:
    run = built(tmp_path)
    run.trainer.fit()
    again = built(tmp_path)
    state, saved = again.trainer.state, read_checkpoint(followed(tmp_path / "checkpoints" / "last"))
    assert again.resumed_from == state.step == run.trainer.settings.total_steps == 6
    for group, tensors in state.tensors().items():
        torch.testing.assert_close(dict(tensors), saved.tensors[group], rtol=0, atol=0)
    assert state.best == run.trainer.state.best
    assert built(tmp_path, "resume=restart").resumed_from is None


def test_more_images_a_step_than_there_are_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="batch_size=64 is larger than the data set of 40"):
        built(tmp_path, "batch_size=64")
