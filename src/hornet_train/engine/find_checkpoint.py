"""Finds the checkpoint that a path given by a user stands for."""

from __future__ import annotations

import os
from pathlib import Path

from hornet_train.engine.checkpoint import CheckpointStore
from hornet_train.engine.checkpoint_files import Checkpoint, read_checkpoint
from hornet_train.engine.manifest import parse_step_name, read_pointer
from hornet_train.errors import CheckpointError


def find_checkpoint(path: Path, groups: tuple[str, ...] = ("model", "ema")) -> tuple[Checkpoint, list[str]]:
    """The checkpoint of a run folder, a `checkpoints` folder or a step folder.

    Of a run it is the best one; if that is missing or damaged the last, else the newest usable one.

    Args:
        path: the folder.
        groups: which safetensors to read and verify.

    Returns:
        The checkpoint, and a sentence for each better choice that was skipped.

    Raises:
        CheckpointError: there is none, or all are damaged.
    """
    if os.path.exists(path / "manifest.json") or parse_step_name(path.name) is not None:
        return read_checkpoint(path, groups), []
    folder = path if path.name == "checkpoints" else path / "checkpoints"
    tried: dict[Path, str] = {}
    # listed again each time: a training in progress removes some and writes others
    while choices := [choice for choice in _by_preference(folder) if choice not in tried]:
        try:
            return read_checkpoint(choices[0], groups), list(tried.values())
        except CheckpointError as error:
            tried[choices[0]] = f"checkpoint skipped: {error}"
    raise CheckpointError("\n  ".join([f"{path} holds no usable checkpoint", *tried.values()]))


def followed(path: Path) -> Path:
    """The step folder that a pointer file names (`checkpoints/best`, `checkpoints/last`); else the path."""
    if path.name not in ("best", "last") or not path.is_file():
        return path
    named = read_pointer(path.parent, path.name)
    return path if named is None else path.parent / named


def _by_preference(folder: Path) -> list[Path]:
    """The step folders in a `checkpoints` folder: the best, then the last, then all others, newest first."""
    steps = {parse_step_name(path.name): path for path in CheckpointStore(folder, keep=1).step_folders()}
    named = [name for pointer in ("best", "last") if (name := read_pointer(folder, pointer)) is not None]
    first = [steps.get(parse_step_name(name), folder / name) for name in named]
    return list(dict.fromkeys([*first, *(path for _, path in sorted(steps.items(), reverse=True))]))
