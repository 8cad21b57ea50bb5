"""`from=`: the stored config of a run as the base of another."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from hornet_train.config.data_schema import DigitsData
from hornet_train.config.stored import read_config
from hornet_train.errors import ConfigError

Tree = dict[str, Any]
NOT_REPEATED = ("run_dir", "resume")  # where that run was written, and how it went on there
KINDS = {"model": "name", "data": "source", "schedule": "kind"}  # group -> the key that tells its option
# keys of data that say how images are read; the others say which images these are
HOW_READ = frozenset(f"data.{one.name}" for one in fields(DigitsData)) - {"data.source"}


@dataclass(frozen=True)
class Repeated:
    """A run that another one repeats.

    Attributes:
        file: its config.yaml.
        tree: what stands in it.
        own_images: whether the command line says which images to train on.
        notes: a sentence for each thing that the config of the repetition has of its own accord.
    """

    file: Path
    tree: Tree
    own_images: bool = False
    notes: Sequence[str] = ()

    @property
    def folder(self) -> Path:
        """The run folder, where the file is of one of its step folders too."""
        place = self.file.parent
        return place.parent.parent if place.parent.name == "checkpoints" else place

    def holds(self, path: str) -> bool:
        """Whether a path is the run folder, or within it."""
        return Path(path).resolve().is_relative_to(self.folder.resolve())


def repeated(given: str) -> Repeated:
    """The run that `from=` names: by its folder, one of its step folders, or a config.yaml.

    Raises:
        ConfigError: there is no config, or it cannot be read.
    """
    path = Path(given)
    file = path / "config.yaml" if path.is_dir() else path
    if not file.is_file():
        what = "has no config.yaml" if path.is_dir() else "is not there"
        raise ConfigError([f"from={given} {what}: give a run folder, a step folder or a config.yaml"])
    return Repeated(file, read_config(file))


def choices(run: Repeated, options: Mapping[str, Mapping[str, Tree]]) -> dict[str, str]:
    """For each group the option that comes nearest to what is stored: it has the same keys.

    Args:
        run: the run.
        options: group, of those in KINDS -> option -> what it sets.

    Raises:
        ConfigError: there is none.
    """
    found, faults = {}, []
    for group in options:
        kind, part = KINDS[group], run.tree.get(group)
        stored = part if isinstance(part, dict) else {}
        same = {
            option: sum(stored.get(key, ...) == value for key, value in sets.items())
            for option, sets in options[group].items()
            if sets.get(kind, ...) == stored.get(kind)
        }
        if same:
            found[group] = max(same, key=lambda option: same[option])
        elif group == "model":  # a name that only timm knows; any option has the keys
            found[group] = "timm"
        else:
            faults.append(f"{run.file}: {group}.{kind}={stored.get(kind)} is not known to this program")
    if faults:
        raise ConfigError(faults)
    return found


def laid_over(
    defaults: Tree, run: Repeated, chosen: Collection[str], free: Collection[str]
) -> tuple[Tree, list[str]]:
    """The stored config over today's defaults.

    Args:
        defaults: with the options of `choices`.
        run: the run.
        chosen: groups that the command line chooses; they stay as they are in `defaults`.
        free: mappings whose keys are not ours to know.

    Returns:
        The tree, and the keys that the stored config does not have.

    Raises:
        ConfigError: it has keys that are not known here, or values that no config has.
    """
    younger: list[str] = []
    faults: list[str] = []

    def over(base: Any, stored: Any, key: str) -> Any:
        if key in free or not isinstance(base, dict) or not isinstance(stored, dict):
            if not _is_plain(stored):
                faults.append(f"{run.file}: {key} is a {type(stored).__name__}, which no key takes")
            return stored
        within = f"{key}." if key else ""
        faults.extend(f"{run.file}: unknown key {within}{name}" for name in stored if name not in base)
        younger.extend(f"{within}{name}" for name in base if name not in stored)
        return {
            name: over(base[name], stored[name], f"{within}{name}") if name in stored else base[name]
            for name in base
        }

    replaced = {name: defaults[name] for name in (*chosen, *NOT_REPEATED)}
    tree: Tree = over(defaults, {**run.tree, **replaced}, "")
    if faults:
        remedy = "take the version that wrote it (environment.json has its commit), or a copy without them"
        raise ConfigError([*faults, remedy])
    return tree, younger


def literal(value: Any) -> Any:
    """A value that OmegaConf resolves to this one: ${...} in a stored text refers to nothing."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    if isinstance(value, list):
        return [literal(one) for one in value]
    if isinstance(value, dict):
        return {name: literal(one) for name, one in value.items()}
    return value


def _is_plain(value: object) -> bool:
    """Whether it is a value of JSON: YAML has dates and bytes too."""
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_plain(part) for name, part in value.items())
    if isinstance(value, list):
        return all(_is_plain(part) for part in value)
    return value is None or isinstance(value, str | int | float)
