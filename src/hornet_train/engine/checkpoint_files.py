"""Reading the files of one checkpoint, with every checksum verified."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from hornet_train.engine.manifest import parse_step_name, read_manifest, read_verified, shortened
from hornet_train.engine.state import TensorGroups, check_numbers
from hornet_train.errors import CheckpointError
from hornet_train.untrusted import MAX_JSON, check_header, parse_json


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and whose checksums match.

    Attributes:
        numbers: the content of `state.json`.
        texts: the content of further files, by name.
    """

    folder: Path
    tensors: TensorGroups
    numbers: dict[str, Any]
    texts: dict[str, str]


def read_checkpoint(folder: Path, groups: tuple[str, ...] | None = None) -> Checkpoint:
    """Read a step folder and verify it against its manifest.

    Args:
        folder: a step folder.
        groups: which safetensors to read (`model`, `ema`, `optimizer`); None for all.

    Raises:
        CheckpointError: a file is missing, truncated or altered, or the format is not supported.
    """
    manifest = read_manifest(folder)
    tensors: TensorGroups = {}
    numbers: dict[str, Any] | None = None
    texts: dict[str, str] = {}
    for name, (size, digest) in manifest.files.items():
        group = name.removesuffix(".safetensors")
        if groups is not None and name.endswith(".safetensors") and group not in groups:
            continue
        if size > MAX_JSON and not name.endswith(".safetensors"):
            raise CheckpointError(f"{folder / name} is to have {size:,} bytes, and {MAX_JSON:,} is the limit")
        data = read_verified(folder / name, size, digest)
        try:
            if name.endswith(".safetensors"):
                check_header(data[:8])
                tensors[group] = safetensors.torch.load(data)
            elif name == "state.json":
                numbers = check_numbers(parse_json(data))
            else:
                texts[name] = data.decode()
        except (SafetensorError, ValueError, LookupError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{folder / name} cannot be read ({shortened(error)})") from None
    if numbers is None or (groups is None and not {"model", "optimizer"} <= set(tensors)):
        raise CheckpointError(f"{folder / 'manifest.json'} does not list all files of a checkpoint")
    named = parse_step_name(folder.name)
    if numbers["step"] != manifest.step or named not in (None, manifest.step):
        raise CheckpointError(f"{folder} holds the checkpoint of another step, {numbers['step']}")
    return Checkpoint(folder, tensors, numbers, texts)
