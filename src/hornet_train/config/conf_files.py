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
    files = [*(conf_dir() / group).glob("*.yaml"), *(conf_dir() / group).glob("*/*.yaml")]
    names = sorted({path.stem for path in files if not path.stem.startswith("_")})
    return [
        name for name in names if task is None or not tasks_of(group, name) or task in tasks_of(group, name)
    ]


def tasks_of(group: str, option: str) -> tuple[str, ...]:
    """The tasks that an option belongs to; empty for one that suits any.

    The first line of its file says so, `# task: classification`; in a recipe the first after Hydra's
    `# @package`. An option of one name that two tasks have lies in a folder of the second one's name, too:
    conf/data/hub.yaml and conf/data/segmentation/hub.yaml.
    """
    found = []
    for file in (
        conf_dir() / group / f"{option}.yaml",
        *sorted((conf_dir() / group).glob(f"*/{option}.yaml")),
    ):
        if file.is_file():
            lines = (
                line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("# @")
            )
            task = _TASK.fullmatch(next(lines, ""))
            found += [task[1]] if task else []
    return tuple(found)


def task_of(group: str, option: str) -> str | None:
    """The one task that an option belongs to; None for any or several."""
    tasks = tasks_of(group, option)
    return tasks[0] if len(tasks) == 1 else None


def within(group: str, option: str, task: str | None) -> str:
    """What Hydra calls an option: of a task that has its own of this name, with its folder."""
    own = f"{task}/{option}"
    return own if task is not None and (conf_dir() / group / f"{own}.yaml").is_file() else option


def own_settings(group: str, option: str, task: str | None = None) -> Tree:
    """What the file of an option sets itself, without what it takes over from others.

    `task`: whose option is meant where several tasks have one of this name.
    """
    file = conf_dir() / group / f"{within(group, option, task)}.yaml"
    tree: Tree = yaml.safe_load(file.read_text(encoding="utf-8"))
    return tree


def all_settings(group: str, option: str, task: str | None = None) -> Tree:
    """What an option sets, with what it takes over from other files of its group; see `own_settings`."""
    tree = own_settings(group, option, task)
    base: Tree = {}
    for name in tree.pop("defaults", []):
        if isinstance(name, str):  # an option of another group is chosen by a mapping
            base |= all_settings(group, name.removeprefix(f"/{group}/").removesuffix("@_here_"))
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
