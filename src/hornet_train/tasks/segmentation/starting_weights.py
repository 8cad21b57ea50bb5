"""Weights to begin with: of a classifier for the backbone, or of a segmentation model with other classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from hornet_train.dense.segmenter import Segmenter
from hornet_train.errors import CheckpointError
from hornet_train.models.weights import load_into
from hornet_train.models.wrappers import unwrapped
from hornet_train.tasks.dense_weights import by_rows, load_backbone, rows_by_name
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
    return load_backbone(model, model.backbone, weights)


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
    rows = rows_by_name(weights.classes, classes, given[classifying[0]].shape[0])
    if rows is not None:
        fresh = rows.count(None)
        for name in classifying:
            given[name] = by_rows(given[name], wanted[name], rows)
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


def _loaded(model: nn.Module, given: Mapping[str, Tensor], weights: Weights) -> list[str]:
    try:
        return load_into(model, given, classifier="decode_head.conv_seg")
    except CheckpointError as error:
        raise CheckpointError(f"{weights.place}: {error}") from error
