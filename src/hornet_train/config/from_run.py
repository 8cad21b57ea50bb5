"""`from=`: the stored config of a run as the base of another."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hornet_train.config.stored import read_config
from hornet_train.errors import ConfigError

Tree = dict[str, Any]
NOT_REPEATED = ("run_dir", "resume")  # where that run was written, and how it was resumed there


@dataclass(frozen=True)
class Repeated:
    """A run that another one repeats.

    Attributes:
        file: its config.yaml.
        tree: what stands in it.
        own_images: whether the command line chooses the images, instead of taking those of that run.
        notes: a sentence for each thing in the new config that neither that run nor the command line says.
        defaults: what the options of the new config set by themselves; those of groups that the command line
            does not choose are the nearest to the run's.
    """

    file: Path
    tree: Tree
    own_images: bool = False
    notes: Sequence[str] = ()
    defaults: Tree = field(default_factory=dict)

    @property
    def model(self) -> str | None:
        """The name of its model; None where there is none."""
        group = self.tree.get("model")
        return group.get("name") if isinstance(group, dict) else None

    @property
    def folder(self) -> Path:
        """The run folder, also where the file is in one of its step folders."""
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


def nearest_option(stored: Mapping[str, Any], kind: str, options: Mapping[str, Tree]) -> str | None:
    """The option whose keys a stored group has, None where there is none.

    Args:
        stored: the group as it is stored.
        kind: the key whose value must be the same.
        options: option -> what its own file sets; of several, the one with most values in common is taken.
    """
    in_common = {
        option: sum(stored.get(key, ...) == value for key, value in settings.items())
        for option, settings in options.items()
        if settings.get(kind, ...) == stored.get(kind)
    }
    return max(in_common, key=lambda option: in_common[option]) if in_common else None


def merge_stored(
    defaults: Tree, run: Repeated, replaced: Collection[str], free: Collection[str]
) -> tuple[Tree, list[str]]:
    """The stored config, with today's defaults for keys that it does not have.

    Args:
        defaults: with the option of each group that comes nearest to the stored one.
        run: the run.
        replaced: groups that the command line chooses; they stay as they are in `defaults`.
        free: mappings whose keys are not known here.

    Returns:
        The merged tree, and the keys that the stored config does not have.

    Raises:
        ConfigError: it has keys that are not known here, or values that no config has.
    """
    missing: list[str] = []
    faults: list[str] = []

    def merge(base: Any, stored: Any, key: str) -> Any:
        if key in free or not isinstance(base, dict) or not isinstance(stored, dict):
            if not _is_json(stored):
                faults.append(f"{run.file}: {key} is a {type(stored).__name__}, which no key takes")
            return stored
        within = f"{key}." if key else ""
        faults.extend(f"{run.file}: unknown key {within}{name}" for name in stored if name not in base)
        missing.extend(f"{within}{name}" for name in base if name not in stored)
        return {
            name: merge(base[name], stored[name], f"{within}{name}") if name in stored else base[name]
            for name in base
        }

    not_taken = {name: defaults[name] for name in (*replaced, *NOT_REPEATED)}
    tree: Tree = merge(defaults, {**run.tree, **not_taken}, "")
    if faults:
        remedy = "take the version that wrote it (environment.json has its commit), or a copy without them"
        raise ConfigError([*faults, remedy])
    return tree, missing


def escape_references(value: Any) -> Any:
    """The value, with ${...} in its texts escaped: what OmegaConf resolves it to is the value again."""
    if isinstance(value, str):
        return re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    if isinstance(value, list):
        return [escape_references(one) for one in value]
    if isinstance(value, dict):
        return {name: escape_references(one) for name, one in value.items()}
    return value


def _is_json(value: object) -> bool:
    """Whether a value is one of JSON; YAML has dates and bytes too."""
    if isinstance(value, dict):
        return all(isinstance(name, str) and _is_json(part) for name, part in value.items())
    if isinstance(value, list):
        return all(_is_json(part) for part in value)
    return value is None or isinstance(value, str | int | float)
