"""Weights from any checkpoint: a run folder, a step folder, a safetensors file, an official .pth."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hornet_train.config.stored import CLASSES, HEADER
from hornet_train.engine.checkpoint import Checkpoint, CheckpointStore, read_checkpoint
from hornet_train.engine.find_checkpoint import find_checkpoint
from hornet_train.errors import CheckpointError, ConfigError
from hornet_train.models.unpickling import unpickle
from hornet_train.models.weight_files import read_weights
from hornet_train.models.weights import class_map, load_into
from hornet_train.untrusted import MAX_HEADER, MAX_LABELS, parse_json, read_text


@dataclass(frozen=True)
class Weights:
    """Weights from a checkpoint.

    Attributes:
        tensors: a state dict.
        place: the step folder or file they are from.
        name: `model` or `ema`.
        step: of the run; None where it is not told.
        classes: their names in label order; empty where they are not told.
        notes: one sentence for each thing a user should know of.
    """

    tensors: dict[str, Tensor]
    place: Path
    name: str
    step: int | None
    classes: tuple[str, ...]
    notes: list[str]


def find_weights(path: Path, wanted: str | None) -> Weights:
    """The weights at a path: of a run folder its best checkpoint, of a step folder, or of a file.

    Args:
        path: where.
        wanted: `model` or `ema`; None for those that were the best where that is told, else the average
            where there is one.

    Raises:
        CheckpointError: there are none, or they are damaged.
    """
    if not path.is_dir():
        tensors, origin = read_weights(path, prefer="model" if wanted == "model" else "ema")
        name = "ema" if origin["ema"] or path.name == "ema.safetensors" else "model"
        if wanted not in (None, name):
            other = "averaged" if wanted == "ema" else "raw"
            raise CheckpointError(f"{path} holds no {other} weights: weights={name}")
        try:
            header = parse_json(origin["metadata"].get(HEADER, "{}"), MAX_HEADER)
        except ValueError as error:
            raise CheckpointError(f"{path}: its header cannot be read ({error})") from error
        return Weights(tensors, path, name, None, _class_names(header, path), origin["notes"])
    saved, notes = find_checkpoint(path)
    step = int(saved.numbers["step"])
    name = wanted or _made_it_the_best(saved) or ("ema" if "ema" in saved.tensors else "model")
    if name not in saved.tensors:
        raise CheckpointError(f"{saved.folder} holds no averaged weights: weights=model")
    classes = _class_names(identity_of(saved), saved.folder)
    return Weights(saved.tensors[name], saved.folder, name, step, classes, notes)


def _made_it_the_best(saved: Checkpoint) -> str | None:
    """Which weights made a checkpoint the best of its run; None where it is not the best.

    The newest checkpoint beside it tells too: where a disk was full, this one may not have been written again
    after its evaluation.
    """
    told = [saved.numbers]
    newest = CheckpointStore(saved.folder.parent, keep=1).newest_complete()
    if newest is not None:
        with suppress(CheckpointError):
            told.append(read_checkpoint(newest, groups=()).numbers)
    bests = [numbers["best"] for numbers in told if numbers.get("best")]
    return next((best["weights"] for best in bests if best["step"] == saved.numbers["step"]), None)


def identity_of(saved: Checkpoint) -> dict[str, Any]:
    """What a checkpoint says of the images it was trained on; nothing where it has no data.json.

    Raises:
        CheckpointError: it is not of the form that `Sources.identity` gives.
    """
    try:
        identity = parse_json(saved.texts.get("data.json", "{}"))
    except ValueError as error:
        raise CheckpointError(f"{saved.folder / 'data.json'} cannot be read ({error})") from error
    _class_names(identity, saved.folder)
    for name, part in identity.items():
        known = {"samples", "sha256"} if name in ("train", "val") else set()
        if name != CLASSES and not (
            isinstance(part, dict)
            and known <= part.keys()
            and all(isinstance(value, int if key != "sha256" else str) for key, value in part.items())
        ):
            raise CheckpointError(f"{saved.folder / 'data.json'}: {name} is not what a run keeps there")
    return dict(identity)


def _class_names(kept: object, place: Path) -> tuple[str, ...]:
    names = kept.get(CLASSES, []) if isinstance(kept, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{place}: what it says of its classes is no list of names")
    return tuple(names)


def start_from(model: nn.Module, init_from: str, init_map: str | None) -> list[str]:
    """Load weights to start from; their head is replaced where the classes differ, and said aloud."""
    weights = find_weights(Path(init_from), None)
    rows = head_rows(Path(init_map)) if init_map is not None else None
    done = load(model, weights, rows=rows, allow_new_head=True)
    return [f"starting from {weights.place} ({weights.name})", *weights.notes, *done]


def head_rows(path: Path) -> Tensor:
    """A class map: a tensor in a .pth, or whole numbers in a text file, one a line.

    Raises:
        ConfigError: it cannot be read, or is none.
    """
    try:
        if path.suffix in (".pth", ".pt"):
            return class_map(unpickle(path))
        return class_map(torch.tensor([int(line) for line in read_text(path, MAX_LABELS).split()]))
    except CheckpointError as error:  # which begins with the path
        raise ConfigError([f"init_map={error}"]) from error
    except OSError as error:
        raise ConfigError([f"init_map={path}: cannot be read ({error.strerror}); check the path"]) from error
    except (ValueError, RuntimeError) as error:  # no numbers, or beyond 64 bits
        raise ConfigError([f"init_map={path}: {error}; it takes one number a line, or a .pth"]) from error


def load(
    model: nn.Module, weights: Weights, *, rows: Tensor | None = None, allow_new_head: bool = False
) -> list[str]:
    """Load weights strictly; see `load_into`. Returns what was done beyond copying."""
    classifier = classifier_name(model)
    try:
        return load_into(
            model, weights.tensors, classifier=classifier, head_rows=rows, allow_new_head=allow_new_head
        )
    except CheckpointError as error:
        raise CheckpointError(f"{weights.place}: {error}") from error


def classifier_name(model: nn.Module) -> str:
    """What timm calls the head of one of its models."""
    name = getattr(model, "pretrained_cfg", {}).get("classifier", "head")
    return name if isinstance(name, str) else name[0]
