"""Configs that were kept: of a run folder, in a step folder, in the header of a weights file.

Such a file may be anyone's. What it says is taken word for word: no alias, no ${reference}, no tag.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open

from hornet_train.errors import CheckpointError, ConfigError
from hornet_train.redaction import redacted_tree
from hornet_train.untrusted import (
    MAX_CONFIG,
    MAX_HEADER,
    Refused,
    check_depth,
    check_header,
    open_plain,
    parse_json,
    read_text,
)

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
    kept = redacted_tree({key: tree[key] for key in ("model", "data", "task", "precision")})
    return json.dumps({**kept, CLASSES: list(classes)})


def read_config(path: Path) -> Tree:
    """A config.yaml.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        text = read_text(path, MAX_CONFIG)
    except (OSError, ValueError) as error:
        told = (
            error.strerror if isinstance(error, OSError) and error.strerror else " ".join(str(error).split())
        )
        raise ConfigError([f"{path} cannot be read ({told})"]) from error
    return _parse(text, path)


def _parse(text: str, path: Path) -> Tree:
    try:
        if len(text) > MAX_CONFIG:
            raise Refused(f"it has {len(text):,} bytes, and {MAX_CONFIG:,} is the limit of its kind")
        tree = yaml.load(text, Loader=_Plain)
        check_depth(tree)
    # damage can make a value of another type out of one, at which PyYAML raises all of these
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        told = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise ConfigError([f"{path} cannot be read ({told})"]) from error
    if not isinstance(tree, dict):
        raise ConfigError([f"{path} holds no config"])
    return tree


class _Plain(yaml.SafeLoader):
    """YAML as we write it: no tags that make objects, and no aliases, by which a few lines say millions."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise Refused("it has aliases, as `*name`, which no config of ours has")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        if odd := [key for key in mapping if not isinstance(key, str)]:
            raise Refused(f"it has a key that is no text, {odd[0]!r}")
        return mapping


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
        with open_plain(checkpoint) as start:
            check_header(start.read(8))
        with safe_open(str(checkpoint), framework="np") as file:
            text = (file.metadata() or {}).get(HEADER)
        tree = parse_json(text, MAX_HEADER) if text else None
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{checkpoint} is not a whole safetensors file ({error})") from error
    return None if tree is None else _training_config(tree, checkpoint)


def _training_config(tree: object, place: Path) -> Tree:
    if not isinstance(tree, dict) or not all(isinstance(tree.get(key), dict) for key in ("model", "data")):
        raise CheckpointError(f"{place} does not hold the config of a training")
    kept = {key: value for key, value in tree.items() if key != CLASSES}
    try:
        check_depth(kept)
    except Refused as error:
        raise CheckpointError(f"{place}: of the config in it, {error}") from error
    if found := next(_references(kept), None):
        raise CheckpointError(
            f"{place}: the config in it has a ${{reference}}, {found[:80]!r}, which could tell of this "
            "machine; a config is kept without any: ask who made it, or take the weights alone"
        )
    return tree


def _references(node: object) -> Iterator[str]:
    """Texts that OmegaConf would resolve: ${oc.env:HF_TOKEN} would put a secret where an error tells it."""
    if isinstance(node, str) and "${" in node:
        yield node
    elif isinstance(node, Mapping | list | tuple):
        for below in (*node, *node.values()) if isinstance(node, Mapping) else node:
            yield from _references(below)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """`key: old -> new` for every key that would make it another run. Secrets are none of it: a config is
    kept without them, and a signature in a URL is another each day."""
    return _differences(redacted_tree(old), redacted_tree(new), "")


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str) -> list[str]:
    found = []
    for name in dict.fromkeys((*old, *new)):
        key = f"{prefix}{name}"
        if key in NEUTRAL:
            continue
        before, after = old.get(name, "(none)"), new.get(name, "(none)")
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            found += _differences(before, after, f"{key}.")
        elif before != after:
            found.append(f"{key}: {before} -> {after}")
    return found
