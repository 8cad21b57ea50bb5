"""Stored configs: of a run folder, in a step folder, in the header of a weights file.

Such a file may be anyone's, so its text is taken literally: no alias, no ${reference}, no tag is resolved.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open

from hornet_train.config.choose_task import same_task
from hornet_train.config.key import keys_where, walk
from hornet_train.config.onnx_texts import SUFFIX, onnx_texts
from hornet_train.errors import CheckpointError, ConfigError
from hornet_train.redaction import redacted_tree
from hornet_train.untrusted import (
    MAX_CONFIG,
    MAX_HEADER,
    Refused,
    check_depth,
    check_header,
    open_regular,
    parse_json,
    read_text,
)

Tree = dict[str, Any]
_TASK = "task.name"
HEADER = "hornet_train"  # the config's key in the metadata of our safetensors files
CLASSES = "classes"  # in that config, the key of the class names, in label order


def header_text(tree: Mapping[str, Any], classes: Sequence[str]) -> str:
    """The part of a config that goes into a weights file, with the class names, as JSON."""
    part = redacted_tree({key: tree[key] for key in ("model", "data", "task", "precision")})
    return json.dumps({**part, CLASSES: list(classes)})


def read_config(path: Path) -> Tree:
    """A config.yaml.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        text = read_text(path, MAX_CONFIG)
    except (OSError, ValueError) as error:
        system = error.strerror if isinstance(error, OSError) else None
        raise ConfigError([f"{path} cannot be read ({system or ' '.join(str(error).split())})"]) from error
    return _parse(text, path)


def _parse(text: str, path: Path) -> Tree:
    try:
        if len(text) > MAX_CONFIG:
            raise Refused(f"it has {len(text):,} bytes, and {MAX_CONFIG:,} is the limit of its kind")
        tree = yaml.load(text, Loader=_Plain)
        check_depth(tree)
    # PyYAML raises all of these where damage has turned a value into one of another type
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())
        raise ConfigError([f"{path} cannot be read ({reason})"]) from error
    if not isinstance(tree, dict):
        raise ConfigError([f"{path} holds no config"])
    return tree


class _Plain(yaml.SafeLoader):
    """YAML as we write it: no tags that make objects, no aliases, with which a few lines become millions."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise Refused("it has aliases, as `*name`, which no config of ours has")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep=deep)
        if odd := [key for key in mapping if not isinstance(key, str)]:
            raise Refused(f"it has a key that is no text, {odd[0]!r}")
        return mapping


def config_in_folder(text: str, folder: Path) -> Tree:
    """The training config of a step folder.

    Args:
        text: of its config.yaml.
        folder: the step folder, for messages.

    Raises:
        ConfigError, CheckpointError: it is not the config of a training.
    """
    return _training_config(_parse(text, folder / "config.yaml"), folder)


def config_in_weights(checkpoint: Path) -> Tree | None:
    """The training config in the header of a weights file; None where it has none, as an official .pth.

    Raises:
        CheckpointError: there is one that cannot be read.
    """
    if checkpoint.suffix == SUFFIX and checkpoint.is_file():
        return _config_in_onnx(checkpoint)
    if checkpoint.suffix != ".safetensors" or not checkpoint.is_file():
        return None
    try:
        with open_regular(checkpoint) as start:
            check_header(start.read(8))
        with safe_open(str(checkpoint), framework="np") as file:
            text = (file.metadata() or {}).get(HEADER)
        tree = parse_json(text, MAX_HEADER) if text else None
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{checkpoint} is not a complete safetensors file ({error})") from error
    return None if tree is None else _training_config(tree, checkpoint)


def _config_in_onnx(path: Path) -> Tree:
    try:
        text = onnx_texts(path).get(HEADER)
        tree = parse_json(text, MAX_HEADER) if text else None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from error
    if tree is None:
        raise CheckpointError(f"{path} is not from hornet-export: it does not say how it is to be used")
    return _training_config(tree, path)


def _training_config(tree: object, place: Path) -> Tree:
    if not isinstance(tree, dict) or not all(isinstance(tree.get(key), dict) for key in ("model", "data")):
        raise CheckpointError(f"{place} does not hold the config of a training")
    config = {key: value for key, value in tree.items() if key != CLASSES}
    try:
        check_depth(config)
    except Refused as error:
        raise CheckpointError(f"{place}: of the config in it, {error}") from error
    if found := next(_references(config), None):
        raise CheckpointError(
            f"{place}: the config in it has a ${{reference}}, {found[:80]!r}, which could reveal something "
            "of this machine; a config is kept without any: ask who made it, or take the weights alone"
        )
    return tree


def _references(node: object) -> Iterator[str]:
    """Texts that OmegaConf would resolve: ${oc.env:HF_TOKEN} would put a secret into an error message."""
    if isinstance(node, str) and "${" in node:
        yield node
    elif isinstance(node, Mapping | list | tuple):
        for below in (*node, *node.values()) if isinstance(node, Mapping) else node:
            yield from _references(below)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], schema: type) -> list[str]:
    """`key: old -> new` for every key whose change makes it another run.

    Secrets do not count: a config is stored without them, and a signature in a URL is another each day.

    Args:
        old: a config as config.yaml holds it.
        new: another.
        schema: of both. Its neutral keys may differ: where a run writes and reads, what it reports, how often
            it evaluates and saves, and how the work is cut up (which changes the random draws of a
            micro-batch and the last bits, no more).
    """
    neutral = keys_where(schema, lambda key: key.neutral)
    absent = {key: properties.absent[0] for key, properties, _ in walk(schema) if properties.absent}

    def compare(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str) -> Iterator[str]:
        for name in dict.fromkeys((*old, *new)):
            key = f"{prefix}{name}"
            if key in neutral:
                continue
            before, after = (one.get(name, absent.get(key, "(none)")) for one in (old, new))
            if isinstance(before, Mapping) and isinstance(after, Mapping):
                yield from compare(before, after, f"{key}.")
            elif before != after and not (key == _TASK and same_task(str(before), str(after))):
                yield f"{key}: {before} -> {after}"

    return list(compare(redacted_tree(old), redacted_tree(new), ""))
