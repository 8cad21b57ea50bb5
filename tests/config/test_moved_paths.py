"""A checkpoint whose data have a relative path is evaluated from another folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hornet_train.config.compose import Composed
from hornet_train.config.compose_eval import compose_eval
from hornet_train.config.compose_train import compose_train
from hornet_train.config.schema import EvalConfig
from hornet_train.errors import ConfigError
from hornet_train.tasks.table import NAMES, find

TREE: dict[str, Any] = {
    "run_dir": "runs/mine",
    "model": {"name": "hornet_pico_gf"},
    "data": {"source": "folder", "root": "photos", "val_dir": "val"},
}


def composed(checkpoint: Path, *more: str, **how: Any) -> Composed[EvalConfig]:
    given = [f"checkpoint={checkpoint}", *more]
    return compose_eval(given, lambda _: TREE, find=find, names=NAMES, **how)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A step folder of a run that was started in tmp_path/there; the working directory is another one."""
    step = tmp_path / "there/runs/mine/checkpoints/step_00000003"
    step.mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return step


def test_it_is_found_by_where_the_run_folder_lies(run: Path, tmp_path: Path) -> None:
    (tmp_path / "there/photos").mkdir()
    for checkpoint in (run, run.parents[1], run / "model.safetensors"):
        found = composed(checkpoint)
        assert found.tree["data"]["root"] == f"{tmp_path}/there/photos"
        assert f"data.root={tmp_path}/there/photos" in found.notes[0]
    (tmp_path / "here/photos").mkdir()  # what is here goes first
    assert composed(run).tree["data"]["root"] == "photos"


def test_it_is_found_by_what_the_run_has_recorded(run: Path, tmp_path: Path) -> None:
    (tmp_path / "else/photos").mkdir(parents=True)
    record = {"directory": "/nowhere", "earlier": [{"directory": f"{tmp_path}/else"}]}
    (run.parents[1] / "environment.json").write_text(json.dumps(record))
    assert composed(run.parents[1]).tree["data"]["root"] == f"{tmp_path}/else/photos"


def test_it_is_asked_for_where_it_is_nowhere(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.root=photos is relative .* give data.root=<its path>"):
        composed(run)
    assert composed(run, f"data.root={tmp_path}").tree["data"]["root"] == str(tmp_path)
    assert composed(run, opens_data=False).tree["data"]["root"] == "photos"  # a prediction needs none


@pytest.mark.parametrize("key", ["run_dir", "from"])
def test_a_training_that_goes_on_or_repeats_one_finds_its_data_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    there = tmp_path / "there"
    (there / "photos").mkdir(parents=True)
    (there / "runs/mine").mkdir(parents=True)
    stored = compose_train(["data=folder", "data.root=photos", "run_dir=runs/mine"], find=find, names=NAMES)
    (there / "runs/mine/config.yaml").write_text(stored.yaml())
    monkeypatch.chdir(tmp_path)
    given = [f"{key}={there}/runs/mine"]
    again = compose_train(given, find=find, names=NAMES)
    assert again.tree["data"]["root"] == f"{there}/photos"
    notes = again.notes if again.repeats is None else again.repeats.notes
    assert f"data.root={there}/photos" in notes[0]
    (there / "photos").rename(there / "pictures")
    with pytest.raises(ConfigError, match=r"give data\.root=<its path>"):
        compose_train(given, find=find, names=NAMES)
    chosen = compose_train([*given, f"data.root={there}/pictures"], find=find, names=NAMES)
    assert chosen.tree["data"]["root"] == f"{there}/pictures"


def test_the_name_of_a_published_set_is_no_path(run: Path, tmp_path: Path) -> None:
    (tmp_path / "there/photos").mkdir()
    data = {"source": "torchvision", "name": "cifar10", "root": "photos"}
    given = [f"checkpoint={run}"]
    found = compose_eval(given, lambda _: {**TREE, "data": data}, find=find, names=NAMES)
    assert (found.tree["data"]["name"], found.tree["data"]["root"]) == ("cifar10", f"{tmp_path}/there/photos")
