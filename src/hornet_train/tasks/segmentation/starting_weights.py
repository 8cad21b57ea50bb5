"""Weights to begin with: of a classifier for the backbone, or of a segmentation model with other classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hornet_train.dense.segmenter import Segmenter
from hornet_train.errors import CheckpointError
from hornet_train.models.convert import convert_names
from hornet_train.models.structure import backbone_of
from hornet_train.models.weights import load_into
from hornet_train.models.wrappers import unwrapped
from hornet_train.tasks.kit_types import Weights

BACKBONE = "backbone."
_AUXILIARY = "auxiliary_head."
_HEADS = ("decode_head.conv_seg", "auxiliary_head.conv_seg")


def has_auxiliary(weights: Weights) -> bool:
    """Whether weights have an auxiliary head."""
    return any(_AUXILIARY in name for name in weights.tensors)


def load_segmenter(model: Segmenter, weights: Weights) -> list[str]:
    """Load all weights strictly; what was done beyond copying.

    An auxiliary head that the model does not have is left out.

    Raises:
        CheckpointError: they are for another model.
    """
    wanted = model.state_dict()
    given, notes = unwrapped(weights.tensors, wanted)
    if not any(name.startswith(_AUXILIARY) for name in wanted):
        given = {name: tensor for name, tensor in given.items() if not name.startswith(_AUXILIARY)}
    return [*notes, *_loaded(model, given, weights)]


def start_segmenter(model: Segmenter, weights: Weights, classes: Sequence[str]) -> list[str]:
    """Load weights to train on from; what was done beyond copying.

    A classifier's go into the backbone, its head is left out. Of a segmentation model the rows of the
    classifying layers go along with the names of their classes; for classes that it does not know they start
    anew.

    Args:
        classes: of the training, in the order of the model's outputs.

    Raises:
        CheckpointError: they are for another model.
    """
    if any(name.startswith("decode_head.") or ".decode_head." in name for name in weights.tensors):
        return _from_segmenter(model, weights, classes)
    try:
        if backbone_of(model) is not None:
            state, taken = convert_names(weights.tensors)
            return [*taken, *load_into(model.backbone, state, allow_new_head=True)]
        return _into_features(model.backbone, weights.tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{weights.place}: {error}") from error


def _from_segmenter(model: Segmenter, weights: Weights, classes: Sequence[str]) -> list[str]:
    wanted = model.state_dict()
    given, notes = unwrapped(weights.tensors, wanted)
    auxiliary = any(name.startswith(_AUXILIARY) for name in wanted)
    if not auxiliary:
        given = {name: tensor for name, tensor in given.items() if not name.startswith(_AUXILIARY)}
    elif not any(name.startswith(_AUXILIARY) for name in given):
        given |= {name: tensor for name, tensor in wanted.items() if name.startswith(_AUXILIARY)}
        notes.append("the auxiliary head starts from its initialisation; the file has none")
    classifying = [name for head in _HEADS for name in (f"{head}.weight", f"{head}.bias") if name in wanted]
    _check_rows(weights, given, wanted, classifying)
    rows = _rows(weights.classes, classes, given[classifying[0]].shape[0])
    if rows is not None:
        fresh = rows.count(None)
        for name in classifying:
            given[name] = _by_rows(given[name], wanted[name], rows)
        kept = len(rows) - fresh
        notes.append(f"{kept} of {len(rows)} classes keep their rows, by their names; {fresh} start anew")
    return [*notes, *_loaded(model, given, weights)]


def _check_rows(
    weights: Weights, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], names: Sequence[str]
) -> None:
    """Raises CheckpointError unless a file has layers that classify, as many rows each, as wide as ours."""
    for name in names:
        if name not in given:
            raise CheckpointError(f"{weights.place}: {name} is missing")
        theirs, ours, rows = given[name].shape, wanted[name].shape, given[names[0]].shape[0]
        if theirs[:1] != (rows,) or theirs[1:] != ours[1:]:
            raise CheckpointError(
                f"{weights.place}: {name} has the shape {list(theirs)}, the model's has {list(ours)}: "
                "model.channels= of the run that it is from"
            )
    outputs = given[names[0]].shape[0]
    if weights.classes and len(weights.classes) != outputs:
        raise CheckpointError(
            f"{weights.place} has {outputs} outputs and {len(weights.classes)} names of classes"
        )


def _rows(there: Sequence[str], here: Sequence[str], outputs: int) -> list[int | None] | None:
    """The file's row of each class; None in place of the list where they are the same in the same order."""
    if tuple(there) == tuple(here) or (not there and outputs == len(here)):
        return None
    return [there.index(name) if name in there else None for name in here]


def _by_rows(theirs: Tensor, ours: Tensor, rows: Sequence[int | None]) -> Tensor:
    return torch.stack([ours[place] if row is None else theirs[row] for place, row in enumerate(rows)])


def _loaded(model: nn.Module, given: Mapping[str, Tensor], weights: Weights) -> list[str]:
    try:
        return load_into(model, given, classifier="decode_head.conv_seg")
    except CheckpointError as error:
        raise CheckpointError(f"{weights.place}: {error}") from error


def _into_features(backbone: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """A classifier of timm's into its form that gives features, whose modules are called a little otherwise.

    Raises:
        CheckpointError: a tensor of the backbone is not there, or of another shape.
    """
    wanted = backbone.state_dict()
    given, notes = unwrapped(state, wanted)
    named = {_plain(name): tensor for name, tensor in given.items()}
    found = {name: named.get(_plain(name)) for name in wanted}
    wrong = [name for name, tensor in found.items() if tensor is None or tensor.shape != wanted[name].shape]
    if wrong:
        raise CheckpointError(
            f"made for another backbone: {len(wrong)} of {len(wanted)} tensors are missing or of another "
            f"shape, {', '.join(wrong[:3])} first"
        )
    taken: Any = found
    backbone.load_state_dict(taken)
    left = len(given) - len(found)
    return [*notes, f"the backbone takes {len(found)} tensors; {left} others, the head's, are left out"]


def _plain(name: str) -> str:
    """timm writes `stages.0` where its feature extractor has `stages_0`, or puts `model.` before it."""
    return name.removeprefix("model.").replace("_", ".")
