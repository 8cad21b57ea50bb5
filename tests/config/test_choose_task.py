"""Which task a command is for, with a second task in conf/ and a user's own beside classification."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from hornet_train.cli.group_lines import group_lines
from hornet_train.config import conf_files, schema
from hornet_train.config.choose_task import StoredTask, choose_task, same_task
from hornet_train.config.compose import Composed, to_yaml
from hornet_train.config.compose_eval import EVAL_GROUPS, compose_eval
from hornet_train.config.compose_train import GROUPS, compose_train
from hornet_train.config.fields import Count, group
from hornet_train.config.key import Key
from hornet_train.config.stored import differences
from hornet_train.config.sweep import JobResult, sweep
from hornet_train.config.task_schema import Given, TaskSchema
from hornet_train.errors import ConfigError
from hornet_train.tasks import table

NAMES = ("classification", "counting")
OWN = "mine/shapes.py"


@group
class Dots(schema.Data):
    source: Literal["dots"]
    root: Annotated[str | None, Key(path=True, neutral=True)]
    side: Annotated[Count, Key(preprocessing=True, how_read=True)]
    most: Count


@group
class Shake(schema.Augment):
    shift: Count


@group
class CountingConfig(schema.Config):
    data: Dots
    augment: Shake


@group
class CountingEval(schema.EvalConfig):
    data: Dots


def rules(config: CountingConfig, given: Given, world_size: int) -> Iterator[str]:
    if config.augment.shift > config.data.side:
        yield f"augment.shift={config.augment.shift} is more than data.side={config.data.side}"
    if "data.most" in given:
        yield f"data.most={given['data.most']} on {world_size} processes"


def counting(name: str, **defaults: Any) -> TaskSchema:
    return TaskSchema(
        name=name,
        about="how many dots there are",
        train=CountingConfig,
        evaluate=CountingEval,
        rules=rules,
        eval_rules=lambda _config, _given: (),
        defaults=defaults,
    )


SCHEMAS = {
    "counting": counting("counting"),
    OWN: counting(
        "shapes",
        data={"source": "dots", "root": None, "side": 9, "most": 4},
        augment={"shift": 2},
        optim={"lr": 0.5},
    ),
}


def find(name: str) -> TaskSchema:
    return SCHEMAS[name] if name in SCHEMAS else table.find(name)


@pytest.fixture(autouse=True)
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of conf/ with the options of a second task."""
    folder = tmp_path / "conf"
    shutil.copytree(conf_files.conf_dir(), folder)
    for file, text in {
        "task/counting": "# @package _global_\ndefaults:\n  - override /data: dots\n"
        "  - override /augment: shake\ntask:\n  name: counting\nrecipe:\n  published: {}\n",
        "data/dots": "# task: counting\ndefaults: [_loader]\nsource: dots\nroot: null\nside: 8\nmost: 3\n",
        "data/many_dots": "# task: counting\ndefaults: [dots]\nmost: 99\n",
        "augment/shake": "# task: counting\nshift: 1\n",
        "recipe/dots": "# @package _global_\n# task: counting\ndefaults:\n  - override /data: many_dots\n"
        "recipe: {name: dots, source: ours, command: null, published: {error: 0.5}, run_by_us: true}\n",
    }.items():
        (folder / f"{file}.yaml").write_text(text)
    monkeypatch.setattr(conf_files, "conf_dir", lambda: folder)
    return folder


def train(*overrides: str) -> Composed[Any]:
    return compose_train(list(overrides), find=find, names=NAMES)


def faults(*overrides: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as raised:
        train(*overrides)
    return raised.value.faults


@pytest.mark.parametrize(
    ("overrides", "task", "data", "augment", "recipe"),
    [
        ([], "classification", "digits", "digits", "digits"),
        (["task=classification", "data=mnist", "data.root=/x"], "classification", "mnist", "paper", "none"),
        (["task=counting"], "counting", "dots", "shake", "none"),
        (["data=dots"], "counting", "dots", "shake", "none"),
        (["augment=shake"], "counting", "dots", "shake", "none"),
        (["recipe=dots"], "counting", "many_dots", "shake", "dots"),
        (["recipe=dots", "data=dots", "task=counting"], "counting", "dots", "shake", "dots"),
        (
            ["data=many_dots", "model=hornet_t_gf", "augment.shift=8"],
            "counting",
            "many_dots",
            "shake",
            "none",
        ),
    ],
)
def test_the_task_follows_from_the_options(
    overrides: list[str], task: str, data: str, augment: str, recipe: str
) -> None:
    composed = train(*overrides)
    assert composed.task == composed.choices["task"] == composed.config.task.name == task
    chosen = [composed.choices[name] for name in ("data", "augment", "recipe")]
    assert chosen == [data, augment, recipe]


def test_recipes_state_their_result_in_the_tasks_own_words() -> None:
    assert train("recipe=dots").config.recipe.published == {"error": 0.5}
    assert train("data=dots").tree["recipe"]["published"] == {}
    published = train("recipe=hornet_s_gf_in1k", "data.root=/x")
    assert published.config.recipe.published == {"top1": 84.0}
    assert published.tree["recipe"]["top1"] == 84.0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["data=dots", "augment=paper"],
            "data=dots is for counting, augment=paper for classification: leave augment= out, or take one "
            "for counting: shake",
        ),
        (
            ["task=classification", "augment=shake"],
            "augment=shake is for counting, but task=classification is given: leave augment= out, or take "
            "one for classification: augmix, digits, none, paper, three",
        ),
        (["recipe=dots", "data=digits"], "data=digits is for classification, recipe=dots for counting"),
        (["task=couting"], "task=couting: no such task; it is one of: "),
        (["data=dots", "optim.lrr=1"], "unknown key optim.lrr: did you mean 'optim.lr'?"),
        (["data=dots", "augment.mixup=1"], "unknown key augment.mixup"),
        (["data=dots", "augment.shift=9"], "augment.shift=9 is more than data.side=8"),
        (["data=dots", "data.most=5"], "data.most=5 on 1 processes"),
        (["data=dots", "epochs=5%"], "epochs=5%"),
    ],
)
def test_clashes_and_other_faults(overrides: list[str], message: str) -> None:
    (fault,) = faults(*overrides)
    assert fault.startswith(message)


def test_a_clash_is_reported_with_what_cannot_be_read() -> None:
    assert len(faults("data=dots", "augment=paper", "a b", "schedule=cosin")) == 3


def test_help_lists_options_by_task() -> None:
    lines = group_lines(GROUPS, find=find, names=NAMES, training=True)
    text = "\n".join(lines)
    at = lines.index(
        "  augment   classification: augmix [digits] none [paper] three".replace("[digits]", "digits")
    )
    assert lines[at + 1] == "            counting: shake"
    assert "  recipe    any task: none\n            classification: [digits] hornet_b_7x7_in1k" in text
    assert "            counting: dots many_dots" in text
    assert "  task      [classification] counting" in text
    assert "  counting        how many dots there are" in text
    assert "imagenet_a" not in text
    one = group_lines(GROUPS, find=find, names=("classification",), training=True)
    assert (
        "  augment   augmix digits none objects [paper] plain_objects plain_scenes scenes shake three" in one
    )
    assert "imagenet_a" in "\n".join(group_lines(EVAL_GROUPS, find=find, names=NAMES, training=False))


def test_a_users_own_task_has_its_own_defaults() -> None:
    composed = train(f"task={OWN}", "data.root=~/x y", "batch_size=8")
    config = composed.config
    assert isinstance(config, CountingConfig)
    assert (config.task.name, config.data.side, config.augment.shift, config.optim.lr) == (OWN, 9, 2, 0.5)
    assert config.data.root == str(Path.home() / "x y")
    assert config.data.prefetch == 2  # of conf/data/_loader.yaml
    assert config.optim.eps == 1e-8
    assert composed.choices["data"] == "shapes"
    (fault,) = faults(f"task={OWN}", "data=digits")
    assert fault.startswith(f"data=digits is for classification, but task={OWN} is given: leave data= out")


@pytest.mark.parametrize("task", ["counting", OWN])
def test_a_run_is_repeated_with_its_task(task: str, tmp_path: Path) -> None:
    before = train(f"task={task}", "data.side=5", "seed=3")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(before.yaml())
    own = [f"task={task}"] if task == OWN else []
    after = train(f"from={folder}", *own)
    assert type(after.config) is CountingConfig
    assert after.tree == before.tree
    assert (
        differences(before.tree, {**after.tree, "data": {**after.tree["data"], "root": "/x"}}, CountingConfig)
        == []
    )
    (fault,) = faults(f"from={folder}", *own, "augment=paper")
    assert "augment=paper" in fault


def test_code_that_a_file_names_runs_only_if_the_user_names_it_too(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    tree = train(f"task={OWN}").tree
    (folder / "config.yaml").write_text(to_yaml(tree))

    def never(name: str) -> TaskSchema:
        assert name in NAMES
        return find(name)

    for compose in (
        lambda: compose_train([f"from={folder}"], find=never, names=NAMES),
        lambda: compose_eval(["checkpoint=x"], lambda _: tree, find=never, names=NAMES),
    ):
        with pytest.raises(ConfigError, match=f"task={OWN} says that its code may run"):
            compose()
    config = compose_eval(["checkpoint=x", f"task={OWN}"], lambda _: tree, find=find, names=NAMES).config
    assert isinstance(config, CountingEval)
    assert config.data.side == 9


def test_an_evaluation_is_of_the_checkpoints_task() -> None:
    def evaluated(*overrides: str, trained: dict[str, Any] | None) -> Composed[Any]:
        return compose_eval(["checkpoint=x", *overrides], lambda _: trained, find=find, names=NAMES)

    trained = train("data=many_dots", "data.side=5", "data.root=/y").tree
    composed = evaluated(trained=trained)
    assert (composed.task, composed.config.data.most, composed.config.data.side) == ("counting", 99, 5)
    assert evaluated("data=dots", trained=trained).config.data.side == 5
    assert evaluated("data=dots", "model=hornet_t_gf", trained=None).task == "counting"
    for overrides, given, message in (
        (
            ["data=digits"],
            trained,
            "checkpoint=x is for counting, data=digits for classification: leave data=",
        ),
        (["suite=all"], trained, "unknown key suite"),
        (["task=counting"], None, "data is missing, and x does not name any"),
        (["task=classification"], trained, "checkpoint=x is for counting, but task=classification is given"),
    ):
        with pytest.raises(ConfigError) as raised:
            evaluated(*overrides, trained=given)
        assert message in str(raised.value)


JOBS: list[list[str]] = []


def job(overrides: list[str]) -> JobResult:
    JOBS.append(overrides)
    return JobResult(0)


@pytest.mark.parametrize("choice", ["data=dots", f"task={OWN}"])
def test_a_sweep_of_another_task(choice: str, tmp_path: Path) -> None:
    JOBS.clear()
    arguments = [choice, "augment.shift=1,2", "data.root=/a b", f"hydra.sweep.dir={tmp_path}/sweep"]
    ended = sweep(arguments, job, find=find, names=NAMES, held_folder=nullcontext)
    assert [one.code for one in ended] == [0, 0]
    configs = [compose_train(one, find=find, names=NAMES).config for one in JOBS]
    assert [type(config) for config in configs] == [CountingConfig, CountingConfig]
    assert [config.augment.shift for config in configs] == [1, 2]  # type: ignore[attr-defined]
    assert configs[0].data.root == "/a b"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("examples/own_task.py", "examples.own_task", True),
        ("/home/me/examples/own_task.py", "examples.own_task", True),
        ("../examples/own_task.py", "own_task.py", True),
        ("own_task", "examples.own_task", True),
        ("examples.own_task", "examples.other_task", False),
        ("mine/own_task.py", "yours.own_task", False),
        ("", "own_task", False),
    ],
)
def test_a_module_and_its_file_are_the_same_task(one: str, other: str, same: bool) -> None:
    assert same_task(one, other) is same
    assert same_task(other, one) is same


def test_a_stored_task_may_be_spelt_otherwise(tmp_path: Path) -> None:
    stored = StoredTask("checkpoint=run", "mine.shapes")
    chosen = choose_task({"task": OWN}, find=find, names=NAMES, stored=stored)
    assert (chosen.name, chosen.faults) == (OWN, ())
    chosen = choose_task(
        {"task": OWN}, find=find, names=NAMES, stored=StoredTask("checkpoint=run", "mine.dots")
    )
    assert "task=mine.dots says that its code may run" in chosen.faults[0]
