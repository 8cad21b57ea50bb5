"""Weights to begin with: of a classifier for the backbone, or of a detector with other classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from hornet_train.dense.rcnn.detector import Detector
from hornet_train.errors import CheckpointError
from hornet_train.models.weights import load_into
from hornet_train.models.wrappers import unwrapped
from hornet_train.tasks.dense_weights import by_rows, load_backbone, rows_by_name
from hornet_train.tasks.kit_types import Weights

_HEADS = "roi_head."
_MASKS = "roi_head.mask_head"
_BY_CLASS = {"fc_cls": 1, "fc_reg": 4, "conv_logits": 1}  # layers, and how many of their rows a class has


def has_masks(weights: Weights) -> bool:
    """Whether weights have a mask head."""
    return any(_MASKS in name for name in weights.tensors)


def load_detector(model: Detector, weights: Weights) -> list[str]:
    """Load all weights strictly; what was done beyond copying.

    Raises:
        CheckpointError: they are for another model.
    """
    given, notes = unwrapped(weights.tensors, model.state_dict())
    return [*notes, *_loaded(model, given, weights)]


def start_detector(model: Detector, weights: Weights, classes: Sequence[str]) -> list[str]:
    """Load weights to train on from; what was done beyond copying.

    A classifier's go into the backbone, its head is left out. Of a detector the rows of its last layers go
    along with the names of their classes; for classes that it does not know they start anew. A mask head that
    only one of them has starts anew, or is left out.

    Args:
        classes: of the training, in the order of the model's outputs.

    Raises:
        CheckpointError: they are for another model.
    """
    if not any(name.startswith(_HEADS) or f".{_HEADS}" in name for name in weights.tensors):
        return load_backbone(model, model.backbone, weights)
    wanted = model.state_dict()
    given, notes = unwrapped(weights.tensors, wanted)
    ours, theirs = (any(name.startswith(_MASKS) for name in one) for one in (wanted, given))
    if theirs and not ours:
        given = {name: tensor for name, tensor in given.items() if not name.startswith(_MASKS)}
        notes.append("the file's mask head is left out: model.masks=false")
    if ours and not theirs:
        given |= {name: tensor for name, tensor in wanted.items() if name.startswith(_MASKS)}
        notes.append("the mask head starts from its initialisation; the file has none")
    rows = rows_by_name(weights.classes, classes, _classes_of(given, weights))
    if rows is not None:
        _check_names(given, weights)
        given = {name: _chosen(name, tensor, wanted.get(name), rows) for name, tensor in given.items()}
        fresh = rows.count(None)
        notes.append(
            f"{len(rows) - fresh} of {len(rows)} classes keep their rows, by their names; {fresh} start anew"
        )
    return [*notes, *_loaded(model, given, weights)]


def _classes_of(given: Mapping[str, Tensor], weights: Weights) -> int:
    """How many classes a file's heads have, the background not among them."""
    for name, tensor in given.items():
        if name.endswith("fc_cls.weight"):
            return len(tensor) - 1
    raise CheckpointError(f"{weights.place}: it has heads, but no fc_cls")


def _check_names(given: Mapping[str, Tensor], weights: Weights) -> None:
    outputs = _classes_of(given, weights)
    if weights.classes and len(weights.classes) != outputs:
        raise CheckpointError(
            f"{weights.place} has {outputs} classes and {len(weights.classes)} names of classes"
        )


def _chosen(name: str, theirs: Tensor, ours: Tensor | None, rows: Sequence[int | None]) -> Tensor:
    """A layer's weights or biases, by class, in our order; of `fc_cls` the background's row is the last."""
    layer = name.rpartition(".")[0].rpartition(".")[2]
    if ours is None or layer not in _BY_CLASS or theirs.shape[1:] != ours.shape[1:]:
        return theirs
    per_class = _BY_CLASS[layer]
    places = [None if row is None else row * per_class + part for row in rows for part in range(per_class)]
    if layer == "fc_cls":
        places.append(len(theirs) - 1)
    return by_rows(theirs, ours, places)


def _loaded(model: nn.Module, given: Mapping[str, Tensor], weights: Weights) -> list[str]:
    try:
        return load_into(model, given)
    except CheckpointError as error:
        raise CheckpointError(f"{weights.place}: {error}") from error
