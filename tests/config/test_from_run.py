"""from=: a stored config as the base of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from configs import compose_train
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from hornet_train.config.compose import Composed
from hornet_train.config.from_run import escape_references, repeated
from hornet_train.config.schema import Config
from hornet_train.errors import ConfigError


def stored(folder: Path, *overrides: str, **changed: Any) -> Path:
    """A run folder with the config of a run, and what was changed in it."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        yaml.safe_dump({**compose_train([*overrides, f"run_dir={folder}"]).tree, **changed})
    )
    return folder


def again(folder: Path, *overrides: str) -> Composed[Config]:
    return compose_train([f"from={folder}", *overrides])


def faults(folder: Path, *overrides: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as raised:
        again(folder, *overrides)
    return raised.value.faults


@pytest.mark.parametrize(
    "overrides",
    [
        ["optim.lr=1e-3", "model.args={scale: 1.0, depths: [1,1,2,1]}", "seed=7", "resume=force"],
        ["recipe=hornet_l_gf_in22k_ft_in1k_384", "data.root=/x", "init_from=a.pth", "init_map=b.txt"],
        ["data=fashion_mnist", "data.root=/x", "schedule=multistep", "schedule.milestones=[3ep,50%]"],
        ["data=hub", "data.name=a/b", "model=timm", "model.name=resnet18", "ema=none", "log=all"],
    ],
)
def test_all_is_taken_over_but_the_place(overrides: list[str], tmp_path: Path) -> None:
    before = compose_train(overrides)
    now = again(stored(tmp_path / "a", *overrides))
    assert now.tree == {**before.tree, "run_dir": None, "resume": "auto"}
    assert now.repeats is not None
    assert now.repeats.notes == []
    assert not now.repeats.own_images


def test_the_name_of_the_model_and_the_data_go_into_that_of_the_run(tmp_path: Path) -> None:
    now = again(stored(tmp_path / "a", "model=hornet_s_gf", "data=mnist", "data.root=/x", "recipe=digits"))
    assert (now.choices["model"], now.choices["data"]) == ("hornet_s_gf", "mnist")


def test_keys_change_it_and_groups_replace_theirs(tmp_path: Path) -> None:
    folder = stored(tmp_path / "a", "optim.lr=1e-3", "model.args.scale=1.0", "ema.decay=0.5", "seed=3")
    now = again(folder, "seed=4", "model=hornet_s_7x7", "ema=average", "optim.eps=1e-6", "run_dir=/x/y")
    assert (now.config.seed, now.config.optim.lr, now.config.optim.eps) == (4, 1e-3, 1e-6)
    assert (now.config.model.name, now.config.model.args) == ("hornet_small_7x7", {})
    assert now.config.ema.decay == compose_train(["recipe=none"]).config.ema.decay
    assert now.config.run_dir == "/x/y"
    assert now.config.batch_size == 96  # the digits' recipe, of the stored run
    other = again(folder, "data=imagenet", "data.root=/y")
    assert other.config.batch_size == 96


@pytest.mark.parametrize(
    ("override", "own"),
    [
        ("data.workers=2", False),
        ("data.image_size=48", False),
        ("data.train_count=9", True),
        ("data=digits", True),
    ],
)
def test_whether_the_images_are_chosen_anew(override: str, own: bool, tmp_path: Path) -> None:
    repeats = again(stored(tmp_path / "a", "data=synthetic"), override).repeats
    assert repeats is not None
    assert repeats.own_images is own


def test_stored_text_refers_to_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "a-secret-value")
    base = compose_train([]).tree
    text = "${oc.env:SECRET} \\${seed}"
    folder = stored(
        tmp_path / "a",
        log={**base["log"], "wandb_name": text},
        model={**base["model"], "args": {"tag": [text, {"deep": text}]}},
    )
    config = again(folder).config
    assert config.log.wandb_name == text
    assert config.model.args == {"tag": [text, {"deep": text}]}
    assert again(folder, "eval.batch_size=${batch_size}").config.eval.batch_size == 96  # the user may
    broken = stored(tmp_path / "b", precision="${oc.env:SECRET}")
    assert "a-secret-value" not in "".join(faults(broken, "seed=x"))
    assert "precision=${oc.env:SECRET}" in "".join(faults(broken))


@given(st.text(alphabet="\\${}a:.'\"[]?, \n"))
def test_escaped_references_resolve_to_the_text(text: str) -> None:
    tree = OmegaConf.create({"a": None, "b": 1})
    tree["a"] = escape_references({"x": [text], "y": text})
    assert OmegaConf.to_container(tree, resolve=True) == {"a": {"x": [text], "y": text}, "b": 1}


def test_an_older_config_gets_defaults_and_it_is_said(tmp_path: Path) -> None:
    base = compose_train(["log=all", "ema.decay=0.5"]).tree
    log = {name: value for name, value in base["log"].items() if name != "gates"}
    folder = stored(tmp_path / "a", log=log)
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    del tree["ema"]
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    now = again(folder)
    assert now.config.log.gates is False
    assert now.config.ema == compose_train(["recipe=none"]).config.ema
    assert now.repeats is not None
    (note,) = now.repeats.notes
    assert note == f"{folder}/config.yaml does not have ema, log.gates: defaults are taken"


def test_what_is_not_known_here_is_named(tmp_path: Path) -> None:
    base = compose_train([]).tree
    folder = stored(tmp_path / "a", optim={**base["optim"], "momentum": 0.9}, later=1, seed="x", run_dir=None)
    message = faults(folder, "optim.lrr=1", "b c")
    assert f"{folder}/config.yaml: unknown key optim.momentum" in message
    assert f"{folder}/config.yaml: unknown key later" in message
    assert "'b c' is not of the form key=value" in message
    assert again(stored(tmp_path / "b", optim={**base["optim"], "momentum": 0.9}), "optim=adamw")
    other = stored(tmp_path / "c", data={**base["data"], "source": "lmdb"})
    assert faults(other) == (f"{other}/config.yaml: data.source=lmdb is not known to this program",)
    assert again(other, "data=digits").config.data.source == "digits"


def test_values_that_no_config_has_are_refused(tmp_path: Path) -> None:
    folder = stored(tmp_path / "a")
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("seed: 0", "seed: 2026-01-01"))
    assert faults(folder)[0] == f"{folder}/config.yaml: seed is a date, which no key takes"


def test_places(tmp_path: Path) -> None:
    folder = stored(tmp_path / "a")
    step = folder / "checkpoints" / "step_00000006"
    step.mkdir(parents=True)
    (step / "config.yaml").write_text((folder / "config.yaml").read_text())
    for place in (folder, step, folder / "config.yaml"):
        assert repeated(str(place)).folder == folder
    (message,) = faults(tmp_path)
    assert message == f"from={tmp_path} has no config.yaml: give a run folder, a step folder or a config.yaml"
    assert "is not there" in faults(tmp_path / "b")[0]
    assert "exclude each other" in faults(folder, "recipe=digits")[0]
    for inside in (folder, folder / "b"):
        assert "is the run that from= repeats" in faults(step, f"run_dir={inside}")[0]
    assert compose_train(["from=null"]).repeats is None
