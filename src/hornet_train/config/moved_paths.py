"""Paths of a stored config that are relative: to the folder in which its run was started."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from hornet_train.config.from_run import escape_references
from hornet_train.untrusted import MAX_JSON, parse_json, read_within

_UP = 3  # from a file in a step folder to the run folder


def started_in(checkpoint: Path, tree: Mapping[str, Any]) -> list[Path]:
    """The folders in which a run may have been started: the one that it recorded, and the one below which
    `run_dir` is where the checkpoint lies (the folders may have moved together).

    Args:
        checkpoint: the run folder, one of its step folders, or a file in one.
        tree: the config in it.
    """
    found: list[Path] = []
    whole = checkpoint.absolute()
    for folder in (whole, *whole.parents[:_UP]):
        found += _recorded(folder / "environment.json")
        run_dir = Path(str(tree.get("run_dir") or "/"))
        if not run_dir.is_absolute() and folder.parts[-len(run_dir.parts) :] == run_dir.parts:
            found.append(folder.parents[len(run_dir.parts) - 1])
    return list(dict.fromkeys(found))


def _recorded(record: Path) -> Iterator[Path]:
    """The folders of all starts in an environment.json, the newest first; none where it does not say."""
    try:
        newest = parse_json(read_within(record, MAX_JSON))
    except (OSError, ValueError):  # it is only one of the places to look at
        return
    earlier = newest.get("earlier", []) if isinstance(newest, dict) else []
    for start in [newest, *(reversed(earlier) if isinstance(earlier, list) else ())]:
        if isinstance(start, dict) and isinstance(start.get("directory"), str):
            yield Path(start["directory"])


def relocate(
    tree: DictConfig,
    stored: Mapping[str, Any],
    place: Path,
    paths: Collection[str],
    given: Collection[str],
) -> tuple[list[str], list[str]]:
    """Replace the relative paths of a run's data by where these are now.

    Args:
        tree: the config that is composed, its data those of the run.
        stored: the config of the run.
        place: the run folder, a step folder, or a file in one.
        paths: the dotted keys that are paths.
        given: the dotted keys of the command line, which are left alone.

    Returns:
        A note for each that was found, and a fault for each that is nowhere.
    """
    of_hub = stored["data"].get("source") == "hub"  # whose name may be a path; elsewhere it is none
    names = [
        name
        for name in stored["data"]
        if f"data.{name}" in paths and f"data.{name}" not in given and (name != "name" or of_hub)
    ]
    found, lost = found_again(stored["data"], names, started_in(place, stored))
    for name, path in found.items():
        tree.data[name] = escape_references(path)
    return [f"data.{name}={path}, as seen from where the run was started" for name, path in found.items()], [
        f"data.{name}={value} is relative to the folder in which {place} was trained, and is not here: "
        f"give data.{name}=<its path>"
        for name, value in lost.items()
        if name != "name"
    ]


def found_again(
    data: Mapping[str, Any], names: Collection[str], places: Iterable[Path]
) -> tuple[dict[str, str], dict[str, str]]:
    """The relative paths of a stored data group that are not there, seen from the working directory.

    Args:
        data: the group.
        names: its keys that are paths.
        places: `started_in`.

    Returns:
        Key -> its path in the first place that has it; and key -> value of those that no place has.
    """
    found, lost = {}, {}
    for name in names:
        value = data.get(name)
        if not isinstance(value, str) or os.path.isabs(value) or "://" in value or _is_there(value):
            continue
        candidates = (str(place / value) for place in places)
        if path := next((one for one in candidates if _is_there(one)), None):
            found[name] = path
        else:
            lost[name] = value
    return found, lost


def _is_there(path: str) -> bool:
    """Whether there is such a file or folder, or one that fits a pattern."""
    return os.path.exists(path) or (glob.has_magic(path) and next(glob.iglob(path), None) is not None)
