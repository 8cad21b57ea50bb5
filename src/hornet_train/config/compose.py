"""From conf/ and a command line to a typed config. Nothing else in the program sees Hydra's objects."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args, get_type_hints

import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from hornet_train.config.bench_schema import Bench
from hornet_train.config.data_schema import EVALUATION_DATA, HubData, SuiteData
from hornet_train.config.overrides import conf_dir, options, parse
from hornet_train.config.repeat import HOW_READ, KINDS, Repeated, choices, laid_over, literal, repeated
from hornet_train.config.schema import Config, Dist, EvalConfig, InfoConfig
from hornet_train.config.validate import data_rules, plain, rules, typed
from hornet_train.errors import ConfigError, did_you_mean
from hornet_train.redaction import MARK

GROUPS = ("model", "data", "augment", "optim", "schedule", "ema", "dist", "log", "task", "recipe")
EVAL_GROUPS = ("model", "data", "dist")
INFO_GROUPS = ("model",)
BENCH_GROUPS = ("dist",)
EVALUATION_ONLY = tuple(  # options of data that hornet-train refuses
    name for kind in EVALUATION_DATA for name in get_args(get_type_hints(kind)["source"])
)
FREE = ("model.args",)  # mappings whose keys are not ours to know
TRAINING_ONLY = (  # keys of eval groups that an evaluation does not read
    "model.drop_path",
    "model.grad_checkpointing",
    "data.drop_last",
    "data.max_bad",
    "data.val",
    "data.train_dir",
    "data.train_count",
    "data.train_split",
    "data.shuffle_buffer",
)
NOT_TOLD = (  # costs do not depend on it
    "model.drop_path",
    "model.grad_checkpointing",
    "model.kernels",
    "model.channels_last",
)
PREPROCESSING = ("image_size", "mean", "std", "crop_pct", "interpolation")

C = TypeVar("C", bound=Config | EvalConfig | InfoConfig | Bench)
Tree = dict[str, Any]


@dataclass(frozen=True)
class Composed(Generic[C]):
    """A config, typed and as the plain mapping that config.yaml holds."""

    config: C
    tree: Tree
    choices: Mapping[str, str]  # group -> option
    repeats: Repeated | None = None  # what `from=` names

    def yaml(self) -> str:
        return to_yaml(self.tree)


def to_yaml(tree: Mapping[str, Any]) -> str:
    text: str = yaml.safe_dump(dict(tree), sort_keys=False, width=110, default_flow_style=None)
    return text


def compose_train(overrides: list[str], *, world_size: int = 1) -> Composed[Config]:
    """The config of `hornet-train <overrides>`.

    Without `recipe=`, the default recipe (the digits) stands for as long as the data are the digits; other
    data then start from recipe=none, the settings that the published trainings have in common. With `from=`
    neither counts: the base is the config of the run that it names.

    Raises:
        ConfigError: with every fault found.
    """
    parsed, faults = parse(overrides, GROUPS)
    source = parsed.pop("from", None)
    if "recipe" not in parsed and parsed.get("data", "digits") != "digits":
        parsed["recipe"] = "none"

    def check(config: Config) -> Iterable[str]:
        yield from rules(config, world_size=world_size)
        if config.augment.start_size is None:
            for key in ("augment.grow_until", "augment.size_step"):
                if key in parsed:
                    yield f"{key}={parsed[key]}, but images do not grow: augment.start_size=128, say"
        if isinstance(config.data, HubData) and not config.data.streaming and "data.shuffle_buffer" in parsed:
            yield "data.shuffle_buffer is of streams, and data.streaming is false: leave one of them out"

    if source is None:
        return _checked(Config, "train", parsed, GROUPS, faults, check)
    try:
        return _repeating(repeated(source), overrides, parsed, faults, check)
    except ConfigError as error:
        raise ConfigError(list(dict.fromkeys([*faults, *error.faults]))) from error


def compose_replay(tree: Tree, file: Path, overrides: list[str], *, world_size: int) -> Composed[Config]:
    """The config of `hornet-train replay=<file> <overrides>`.

    Args:
        tree: the config of the run that kept a step in the file.
        file: names it in messages.
        overrides: without `replay=`.
        world_size: of that run.

    Raises:
        ConfigError: with every fault found.
    """
    parsed, faults = parse(overrides, GROUPS)
    run = Repeated(file, tree)
    return _repeating(run, overrides, parsed, faults, lambda config: rules(config, world_size=world_size))


def _repeating(
    run: Repeated,
    overrides: list[str],
    parsed: dict[str, Any],
    faults: list[str],
    check: Callable[[Config], Iterable[str]],
) -> Composed[Config]:
    """The config of a run, but for the groups and keys of the command line."""
    given = {text.partition("=")[0].lstrip("+") for text in overrides}
    if "recipe" in given:
        faults.append("recipe= and from= exclude each other: each is a whole training")
    chosen = [group for group in GROUPS if group in given]
    sets = {
        group: {name: _sets(group, name) for name in options(group)} for group in KINDS if group not in chosen
    }
    younger: list[str] = []

    def from_run(tree: DictConfig) -> None:
        stored, missing = laid_over(_plain(tree), run, chosen, FREE)
        younger.extend(missing)
        for name, part in stored.items():
            tree[name] = literal(part)

    def check_all(config: Config) -> Iterable[str]:
        yield from check(config)
        if config.run_dir is not None and run.holds(config.run_dir):
            yield f"run_dir={config.run_dir} is the run that from= repeats: choose another, or leave it out"

    parsed = {**choices(run, sets), **parsed, "recipe": "none"}
    composed = _checked(Config, "train", parsed, GROUPS, faults, check_all, from_run)
    own_images = any(key == "data" or (key.startswith("data.") and key not in HOW_READ) for key in given)
    notes = [f"{run.file} does not have {', '.join(younger)}: defaults are taken"] if younger else []
    return replace(composed, repeats=replace(run, own_images=own_images, notes=notes))


def _sets(group: str, option: str) -> Tree:
    """What an option's own file sets."""
    tree: Tree = yaml.safe_load((conf_dir() / group / f"{option}.yaml").read_text())
    return tree


def compose_eval(overrides: list[str], stored: Callable[[str], Tree | None]) -> Composed[EvalConfig]:
    """The config of `hornet-eval <overrides>`.

    What the checkpoint was trained with comes first: its model and its data, and its preprocessing also
    where other data are chosen. Group choices replace these, and single keys replace both.

    Args:
        overrides: the command line.
        stored: gives what is known of a checkpoint's training: a training config, or of its groups
            what the weights alone tell, with `unlike` for why they tell no model; None for nothing.

    Raises:
        ConfigError: with every fault found.
    """
    parsed, faults = parse(overrides, EVAL_GROUPS)
    if parsed.get("suite") is not None:
        if "data" in parsed:
            faults.append(f"data={parsed['data']} and suite= exclude each other: suite= finds its own data")
        parsed["data"] = "_suite"
    checkpoint = parsed.get("checkpoint")
    trained = stored(str(checkpoint)) if checkpoint is not None else None
    if checkpoint is None:
        faults.append("checkpoint is missing: checkpoint=<run folder, step folder, .safetensors or .pth>")
    if checkpoint is not None and "model" not in parsed and not (trained or {}).get("model"):
        unlike = f" ({trained['unlike']})" if trained and "unlike" in trained else ""
        faults.append(f"model is missing, and {checkpoint} does not tell{unlike}: model=hornet_t_gf, say")
    if checkpoint is not None and "data" not in parsed and "source" not in (trained or {}).get("data", {}):
        faults.append(
            f"data is missing, and {checkpoint} does not tell: data=imagenet data.root=<folder>, say"
        )

    faults += [f"{key} is read in training only" for key in parsed if key in TRAINING_ONLY]
    kept = trained or {}
    same_data = "data" not in parsed and "source" in kept.get("data", {})
    if same_data and kept["data"]["source"] in options("data"):
        parsed["data"] = kept["data"]["source"]  # for keys that are younger than the checkpoint

    def from_training(tree: DictConfig) -> None:
        if "model" not in parsed:
            tree.model = OmegaConf.merge(tree.model, kept.get("model", {}))
        if same_data:
            tree.data = OmegaConf.merge(tree.data, kept["data"])
        for name in PREPROCESSING:
            tree.data[name] = kept.get("data", {}).get(name, tree.data[name])
        tree.precision = kept.get("precision", tree.precision)

    def check(config: EvalConfig) -> Iterable[str]:
        yield from data_rules(config.data)
        yield from _training_only(config.dist)
        for name, value in vars(config.data).items():
            if isinstance(value, str) and MARK in value:
                yield f"data.{name}={value} is kept without its secrets: give data.{name}= as it was"
        if isinstance(config.data, SuiteData) and config.suite is None and "suite" not in parsed:
            yield "data.source=suite: which sets is said by suite=all or suite=[imagenet_a,imagenet_r]"

    return _checked(EvalConfig, "eval", parsed, EVAL_GROUPS, faults, check, from_training)


def compose_info(overrides: list[str]) -> Composed[InfoConfig]:
    """The config of `hornet-info <overrides>`.

    Raises:
        ConfigError: with every fault found.
    """
    parsed, faults = parse(overrides, INFO_GROUPS)
    faults += [f"{key} changes nothing that hornet-info tells" for key in parsed if key in NOT_TOLD]
    return _checked(InfoConfig, "info", parsed, INFO_GROUPS, faults, lambda _config: ())


B = TypeVar("B", bound=Bench)


def compose_bench(kind: type[B], name: str, overrides: list[str]) -> Composed[B]:
    """The config of `hornet-bench <name> <overrides>`.

    Raises:
        ConfigError: with every fault found.
    """
    parsed, faults = parse(overrides, BENCH_GROUPS)
    return _checked(
        kind, f"bench_{name}", parsed, BENCH_GROUPS, faults, lambda config: _training_only(config.dist)
    )


def _training_only(dist: Dist) -> Iterable[str]:
    if dist.strategy != "ddp":
        yield f"dist.strategy={dist.strategy} is for training only: leave dist out"


def _checked(
    kind: type[C],
    name: str,
    parsed: dict[str, Any],
    groups: tuple[str, ...],
    faults: list[str],
    check: Callable[[C], Iterable[str]],
    base: Callable[[DictConfig], None] = lambda _tree: None,
) -> Composed[C]:
    """Compose, set the single keys, type, check the rules; raises `faults` and every further one."""
    choices = [f"{key}={value}" for key, value in parsed.items() if key in groups]
    with initialize_config_dir(version_base="1.3", config_dir=str(conf_dir()), job_name="hornet"):
        try:
            tree = compose(name, choices, return_hydra_config=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError([*faults, " ".join(str(error).split())]) from error
    OmegaConf.set_struct(tree, False)
    chosen = {group: str(tree.hydra.runtime.choices[group]) for group in groups}
    del tree["hydra"]
    try:
        base(tree)
        defaults = _plain(tree)
    except OmegaConfBaseException as error:  # what a checkpoint says is no config
        raise ConfigError([*faults, " ".join(str(error).split())]) from error
    keys = _keys(defaults)
    for key, value in parsed.items():
        if key in groups:
            continue
        if key in keys or any(key.startswith(f"{free}.") for free in FREE):
            try:
                OmegaConf.update(tree, key, value, merge=True)
            except OmegaConfBaseException:  # a list for a mapping, say
                faults.append(f"{key}={value} is not of the kind that {key} takes")
        else:
            faults.append(f"unknown key {key}: {did_you_mean(key, keys)}")
    try:
        config, mistyped = typed(kind, _plain(tree))
    except OmegaConfBaseException as error:  # a ${reference} to nothing
        raise ConfigError([*faults, " ".join(str(error).split())]) from error
    faults += mistyped.values()
    if config is None:  # look for broken rules among the other keys
        for key in mistyped:
            while key not in keys:  # an element of a list
                key = key.rpartition(".")[0]
            OmegaConf.update(tree, key, literal(_at(defaults, key)), merge=False)
        config, _ = typed(kind, _plain(tree))
    if config is not None:
        faults += check(config)
    if faults or config is None:
        raise ConfigError(faults)
    return Composed(config, plain(config), chosen)


def _plain(tree: DictConfig) -> Tree:
    nested = OmegaConf.to_container(tree, resolve=True)
    assert isinstance(nested, dict)
    return {str(key): value for key, value in nested.items()}


def _at(tree: Any, key: str) -> Any:
    for name in key.split("."):
        tree = tree[name]
    return tree


def _keys(tree: Any, prefix: str = "") -> list[str]:
    """Every dotted key of a nested mapping, inner nodes too."""
    found = []
    for name, value in tree.items():
        found.append(f"{prefix}{name}")
        if isinstance(value, dict):
            found += _keys(value, f"{prefix}{name}.")
    return found
