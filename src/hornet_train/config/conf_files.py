"""The files of conf/: where they are, which options a group has, and of which task an option is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

Tree = dict[str, Any]
_TASK = re.compile(r"#\s*task:\s*(\w+)\s*")


def conf_dir() -> Path:
    """The folder of the config groups: beside src/ in a checkout, inside the package when installed."""
    package = Path(__file__).resolve().parents[1]
    for place in (package / "conf", package.parents[1] / "conf"):
        if (place / "train.yaml").is_file():
            return place
    raise FileNotFoundError(
        f"conf/ is neither in {package} nor in {package.parents[1]}: a broken installation"
    )


def options(group: str, *, task: str | None = None) -> list[str]:
    """The names that `group=` takes; with a task, only those of this task and those of any task."""
    names = sorted(path.stem for path in (conf_dir() / group).glob("*.yaml") if not path.stem.startswith("_"))
    return [name for name in names if task is None or task_of(group, name) in (None, task)]


def task_of(group: str, option: str) -> str | None:
    """The task that an option belongs to, None for any.

    Its first line says so, `# task: classification`; in a recipe the first after Hydra's `# @package`.
    """
    text = (conf_dir() / group / f"{option}.yaml").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("# @"))
    found = _TASK.fullmatch(next(lines, ""))
    return found[1] if found else None


def own_settings(group: str, option: str) -> Tree:
    """What the file of an option sets itself, without what it takes over from others."""
    tree: Tree = yaml.safe_load((conf_dir() / group / f"{option}.yaml").read_text(encoding="utf-8"))
    return tree


def all_settings(group: str, option: str) -> Tree:
    """What an option sets, with what it takes over from other files of its group."""
    tree = own_settings(group, option)
    base: Tree = {}
    for name in tree.pop("defaults", []):
        if isinstance(name, str):  # an option of another group is chosen by a mapping
            base |= all_settings(group, name)
    return base | tree


def dotted_keys(tree: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Every dotted key of a nested mapping, inner nodes too."""
    found = []
    for name, value in tree.items():
        found.append(f"{prefix}{name}")
        if isinstance(value, dict):
            found += dotted_keys(value, f"{prefix}{name}.")
    return found


def default_options(name: str = "train") -> dict[str, str]:
    """Group -> the option that conf/<name>.yaml takes where the command line says none."""
    listed = yaml.safe_load((conf_dir() / f"{name}.yaml").read_text(encoding="utf-8"))["defaults"]
    return {group: option for one in listed if isinstance(one, dict) for group, option in one.items()}
