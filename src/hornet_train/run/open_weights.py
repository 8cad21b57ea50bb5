"""Weights from any checkpoint: a run folder, a step folder, a safetensors file, an official .pth."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from hornet_train.config.onnx_texts import SUFFIX
from hornet_train.config.stored import CLASSES, HEADER, config_in_folder, config_in_weights
from hornet_train.data.sources.listing import with_count
from hornet_train.engine.checkpoint import Checkpoint, CheckpointStore, read_checkpoint
from hornet_train.engine.find_checkpoint import find_checkpoint, followed
from hornet_train.errors import CheckpointError
from hornet_train.models.weight_files import read_weights
from hornet_train.optim.ema import initial_share
from hornet_train.tasks.kit_types import Weights
from hornet_train.untrusted import MAX_HEADER, parse_json

_MOSTLY = 0.5  # of an average that is still what it began with


def find_weights(path: Path, wanted: str | None, *, exports: bool = False) -> Weights:
    """The weights at a path: of a run folder its best checkpoint, of a step folder, or of a file.

    Args:
        path: of a run folder, a step folder or a file.
        wanted: `model` or `ema`; None for those that were the best if that is recorded, else the averaged
            ones if there are any, and they are no longer mostly those with which the run began.
        exports: whether an exported model serves, too.

    Raises:
        CheckpointError: there are none, or they are damaged.
    """
    path = followed(path)
    if path.suffix == SUFFIX and path.is_file():
        return _of_export(path, serves=exports)
    if not path.is_dir():
        tensors, origin = read_weights(path, prefer="model" if wanted == "model" else "ema", whole=True)
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
    chosen = wanted or _made_it_the_best(saved)
    name, early = (chosen, []) if chosen is not None else _unevaluated(saved, step)
    if name not in saved.tensors:
        raise CheckpointError(f"{saved.folder} holds no averaged weights: weights=model")
    return Weights(saved.tensors[name], saved.folder, name, step, classes_of(saved), [*notes, *early])


def _of_export(path: Path, *, serves: bool) -> Weights:
    if not serves:
        raise CheckpointError(f"{path} is an exported model: hornet-predict runs it; here weights are needed")
    from hornet_train.run.onnx_detector import OnnxDetector
    from hornet_train.run.onnx_model import OnnxModel

    tree = config_in_weights(path)
    task = tree.get("task") if isinstance(tree, dict) else None
    finds = isinstance(task, dict) and task.get("name") == "detection"
    classes = _class_names(tree, path)
    model = (OnnxDetector if finds else OnnxModel)(path, len(classes))
    return Weights({}, path, "model", None, classes, [], model)


def _made_it_the_best(saved: Checkpoint) -> str | None:
    """Which weights made a checkpoint the best of its run; None if it is not the best.

    The newest checkpoint beside it is asked too: if the disk was full, this one may not have been written
    again after its evaluation.
    """
    states = [saved.numbers]
    newest = CheckpointStore(saved.folder.parent, keep=1).newest_complete()
    if newest is not None:
        with suppress(CheckpointError):
            states.append(read_checkpoint(newest, groups=()).numbers)
    bests = [numbers["best"] for numbers in states if numbers.get("best")]
    return next((best["weights"] for best in bests if best["step"] == saved.numbers["step"]), None)


def _unevaluated(saved: Checkpoint, step: int) -> tuple[str, list[str]]:
    """Which weights to take where no evaluation says it, and a note if they are not the averaged ones."""
    if "ema" not in saved.tensors:
        return "model", []
    tree = config_in_folder(saved.texts["config.yaml"], saved.folder) if "config.yaml" in saved.texts else {}
    average = tree.get("ema")
    decay, warmup = (average.get(name) if isinstance(average, dict) else None for name in ("decay", "warmup"))
    share = initial_share(step, decay, warmup=warmup is True) if isinstance(decay, float) else 0.0
    if share <= _MOSTLY:
        return "ema", []
    return "model", [
        f"the averaged weights of {saved.folder} are still {share:.0%} those that the run began with "
        f"(ema.decay={decay}, {with_count(step, 'step')}): the raw ones are taken, not these (weights=ema)"
    ]


def identity_of(saved: Checkpoint) -> dict[str, Any]:
    """What a checkpoint says of the images it was trained on; nothing where it has no data.json.

    Raises:
        CheckpointError: it is not of the form that `Datasets.identity` gives.
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


def classes_of(saved: Checkpoint) -> tuple[str, ...]:
    """The classes that a checkpoint was trained on, in the order of its outputs; empty if they are not known.

    Raises:
        CheckpointError: what it says of them is no list of names.
    """
    return _class_names(identity_of(saved), saved.folder)


def _class_names(kept: object, place: Path) -> tuple[str, ...]:
    names = kept.get(CLASSES, []) if isinstance(kept, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise CheckpointError(f"{place}: what it says of its classes is no list of names")
    return tuple(names)
