"""Configs that were kept: of a run folder, in a step folder, in the header of a weights file."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any, Literal

import yaml
from safetensors import SafetensorError, safe_open

from hornet_train.errors import CheckpointError, ConfigError

Tree = dict[str, Any]
HEADER = "hornet_train"  # key of the config in the metadata of our safetensors

# What may change between the starts of one run: where it writes and reads, how it speaks, and how the work
# is cut up, none of which changes the result.
NEUTRAL = (
    "run_dir",
    "resume",
    "init_from",  # used once, at the very start
    "init_map",
    "micro_batch_size",
    "data.root",
    "data.workers",
    "data.prefetch",
    "dist",
    "log",
    "checkpoint",
    "eval",
    "recipe",
    "model.grad_checkpointing",
)


def header_text(tree: Mapping[str, Any]) -> str:
    """The config as it goes into a weights file."""
    return json.dumps({key: tree[key] for key in ("model", "data", "task", "precision")})


def read_config(path: Path) -> Tree:
    """A config.yaml.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        tree = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError([f"{path} cannot be read ({' '.join(str(error).split())})"]) from error
    if not isinstance(tree, dict):
        raise ConfigError([f"{path} holds no config"])
    return tree


def trained_with(checkpoint: Path) -> Tree | None:
    """The training config kept beside or in a checkpoint; None where there is none (an official .pth).

    Args:
        checkpoint: a run folder, a step folder or a file of weights.

    Raises:
        ConfigError, CheckpointError: there is one and it cannot be read.
    """
    if checkpoint.is_dir():
        kept = checkpoint / "config.yaml"
        return read_config(kept) if kept.exists() else None
    if checkpoint.suffix != ".safetensors" or not checkpoint.is_file():
        return None
    try:
        with safe_open(str(checkpoint), framework="np") as file:
            text = (file.metadata() or {}).get(HEADER)
        tree = json.loads(text) if text else None
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{checkpoint} is not a whole safetensors file ({error})") from error
    return tree if isinstance(tree, dict) else None


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """`key: old -> new` for every key that would make it another run."""
    found = []
    for name in dict.fromkeys((*old, *new)):
        key = f"{prefix}{name}"
        if key in NEUTRAL:
            continue
        before, after = old.get(name, "(none)"), new.get(name, "(none)")
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += differences(before, after, f"{key}.")
        elif before != after:
            found.append(f"{key}: {before} -> {after}")
    return found


def default_run_dir(choices: Mapping[str, str]) -> Path:
    """runs/<date>_<model>_<data>, new each second."""
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    return Path("runs") / f"{stamp}_{choices['model']}_{choices['data']}"


Resume = Literal["auto", "force", "restart"]


def check_run_folder(folder: Path, tree: Mapping[str, Any], resume: Resume) -> None:
    """Make sure that a run can be written to a folder; changes nothing.

    Raises:
        ConfigError: it is no folder, cannot be written, or holds a run with another config.
    """
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ConfigError([f"run_dir={folder} is a file: choose another"])
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigError(
            [f"run_dir={folder} cannot be read and written: choose another, or change its rights"]
        )
    if resume == "restart":
        return
    kept = folder / "config.yaml"
    if not kept.exists():
        if (folder / "checkpoints").exists():
            raise ConfigError(
                [f"run_dir={folder} has checkpoints but no config.yaml: choose another run_dir"]
            )
        return
    changed = differences(read_config(kept), tree)
    if changed and resume == "auto":
        lines = "".join(f"\n    {line}" for line in changed)
        raise ConfigError(
            [
                f"run_dir={folder} holds a run with another config:{lines}\n"
                "  start anew elsewhere with another run_dir=, here with resume=restart (the old run is kept "
                "under another name), or go on all the same with resume=force"
            ]
        )


def claim_run_folder(folder: Path, tree: Mapping[str, Any], resume: Resume) -> str | None:
    """Make the run folder, after `check_run_folder`; with `restart`, move an earlier run out of the way.

    Returns:
        What was done, or is different, as a sentence; None for nothing.

    Raises:
        ConfigError: the folder cannot be made.
    """
    note, kept = None, folder / "config.yaml"
    try:
        if kept.exists() and resume == "restart":
            numbered = (folder.with_name(f"{folder.name}.old{i}") for i in count(1))
            aside = next(place for place in numbered if not place.exists())
            folder.rename(aside)
            note = f"the run that was in {folder} is now in {aside}"
        elif kept.exists() and (changed := differences(read_config(kept), tree)):
            note = f"going on with another config: {'; '.join(changed)}"
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError([f"run_dir={folder} cannot be made ({error.strerror}): choose another"]) from error
    return note
