"""Configs that were kept: of a run folder, in a step folder, in the header of a weights file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open

from hornet_train.errors import CheckpointError, ConfigError

Tree = dict[str, Any]
HEADER = "hornet_train"  # key of the config in the metadata of our safetensors
CLASSES = "classes"  # and in it, of the class names in label order

# What may change between the starts of one run: where it writes and reads, how it speaks, how often it looks
# and saves, and how the work is cut up (which moves the draws by micro-batch and the last bits, no more).
NEUTRAL = (
    "run_dir",
    "resume",
    "init_from",  # used once, at the very start
    "init_map",
    "micro_batch_size",
    "data.root",
    "data.train_dir",  # what the images are is kept and compared by itself
    "data.val_dir",
    "data.val_labels",
    "data.workers",
    "data.prefetch",
    "data.max_bad",
    "data.on_bad",
    "dist",
    "log",
    "checkpoint",
    "guard",
    "eval",
    "recipe",
    "model.grad_checkpointing",
)


def header_text(tree: Mapping[str, Any], classes: Sequence[str]) -> str:
    """The config and the class names as they go into a weights file."""
    kept = {key: tree[key] for key in ("model", "data", "task", "precision")}
    return json.dumps({**kept, CLASSES: list(classes)})


def read_config(path: Path) -> Tree:
    """A config.yaml.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{path} cannot be read ({' '.join(str(error).split())})"]) from error
    return _parse(text, path)


def _parse(text: str, path: Path) -> Tree:
    try:
        tree = yaml.safe_load(text)
    # damage can make a value of another type out of one, at which PyYAML raises all of these
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise ConfigError([f"{path} cannot be read ({' '.join(str(error).split())})"]) from error
    if not isinstance(tree, dict):
        raise ConfigError([f"{path} holds no config"])
    return tree


def kept_config(text: str, folder: Path) -> Tree:
    """The training config of a step folder.

    Args:
        text: of its config.yaml.
        folder: where that is from.

    Raises:
        ConfigError, CheckpointError: it is none.
    """
    return _training_config(_parse(text, folder / "config.yaml"), folder)


def trained_with(checkpoint: Path) -> Tree | None:
    """The training config in the header of a file of weights; None where there is none (an official .pth).

    Raises:
        CheckpointError: there is one and it cannot be read.
    """
    if checkpoint.suffix != ".safetensors" or not checkpoint.is_file():
        return None
    try:
        with safe_open(str(checkpoint), framework="np") as file:
            text = (file.metadata() or {}).get(HEADER)
        tree = json.loads(text) if text else None
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{checkpoint} is not a whole safetensors file ({error})") from error
    return None if tree is None else _training_config(tree, checkpoint)


def _training_config(tree: object, place: Path) -> Tree:
    if not isinstance(tree, dict) or not all(isinstance(tree.get(key), dict) for key in ("model", "data")):
        raise CheckpointError(f"{place} does not hold the config of a training")
    return tree


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
