"""Weights to begin a dense model with: a classifier's for its backbone, and rows by the names of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from hornet_train.errors import CheckpointError
from hornet_train.models import structure
from hornet_train.models.convert import STEM, convert_names
from hornet_train.models.weights import load_into
from hornet_train.models.wrappers import unwrapped
from hornet_train.tasks.kit_types import Weights


def load_backbone(model: nn.Module, backbone: nn.Module, weights: Weights) -> list[str]:
    """Load a classifier's weights into a model's backbone; its head is left out.

    Returns:
        One sentence for each thing done beyond copying.

    Raises:
        CheckpointError: they are for another backbone.
    """
    try:
        if structure.backbone_of(model) is not None:
            state, taken = convert_names(weights.tensors)
            return [*taken, *_into_hornet(backbone, state)]
        return _into_features(backbone, weights.tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{weights.place}: {error}") from error


def _into_hornet(backbone: nn.Module, state: Mapping[str, Tensor]) -> list[str]:
    """See `load_into`; where the stems have other strides, the error says what to do."""
    try:
        return load_into(backbone, state, allow_new_head=True)
    except CheckpointError as error:
        theirs, ours = state.get(STEM), backbone.state_dict()[STEM]
        if theirs is None or theirs.ndim != ours.ndim or theirs.shape[2:] == ours.shape[2:]:
            raise
        stride = theirs.shape[2]
        hint = f"its stem has stride {stride}: model.args={{stem_stride: {stride}}}"
        raise CheckpointError(f"{error}; {hint}") from error


def by_rows(theirs: Tensor, ours: Tensor, rows: Sequence[int | None]) -> Tensor:
    """Rows of theirs, by their places, and for None the row that we have."""
    return torch.stack([ours[place] if row is None else theirs[row] for place, row in enumerate(rows)])


def rows_by_name(there: Sequence[str], here: Sequence[str], outputs: int) -> list[int | None] | None:
    """The file's row of each class; None in place of the list where they are the same in the same order.

    Args:
        there: names of the file's classes; empty where they are not known.
        here: ours.
        outputs: how many the file has.
    """
    if tuple(there) == tuple(here) or (not there and outputs == len(here)):
        return None
    return [there.index(name) if name in there else None for name in here]


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
