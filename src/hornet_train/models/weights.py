"""Weights into models: telling which model they are for, and strict loading."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping

import timm
import torch
from torch import Tensor, nn

from hornet_train.errors import CheckpointError
from hornet_train.models.convert import Misfit, fit_filters, some
from hornet_train.models.variants import VARIANTS

_TRUNK = re.compile(r"downsample_layers\.|stages\.")
_OUTPUT_NORM = re.compile(r"norm\d\.")  # norm0 .. norm3 of a dense-prediction backbone
_NORM = re.compile(r"norm\d?\.(weight|bias)$")


def identify(state: Mapping[str, Tensor]) -> str | None:
    """The registered variant whose trunk has the names and shapes of `state`'s, or None."""
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if _TRUNK.match(name)}
    stem = shapes.get("downsample_layers.0.0.weight", (0,))
    alike = (name for name, row in VARIANTS.items() if row.dim == stem[0])  # spares building the others
    return next((name for name in alike if shapes and _trunk_shapes(name) == shapes), None)


def load_into(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    head_rows: Tensor | None = None,
    resize_filters: bool = True,
    allow_new_head: bool = False,
    classifier: str = "head",
) -> list[str]:
    """Load weights strictly; on a misfit the model is left as it was.

    Args:
        model: the bare model, not its DDP or compiled wrapper.
        state: names and tensors, as `read_weights` gives them.
        head_rows: int64, one row of the file's head for each class of the model (the 22K -> 1K map).
        resize_filters: resize global filters of another grid, once, bilinearly with aligned corners.
        allow_new_head: keep the model's freshly initialised head where the file's is for another number of
            classes or missing, and drop the file's where the model has none. So too with the norms between
            trunk and head, where one is a classifier and the other a dense-prediction backbone.
        classifier: the name of the model's head, timm's `classifier`.

    Returns:
        One sentence for each thing done beyond copying.

    Raises:
        CheckpointError: missing, unexpected or misshapen tensors, all told in one message.
    """
    wanted = model.state_dict()
    given = dict(state)
    notes = fit_filters(given, wanted) if resize_filters else []
    notes += _fit_head(given, wanted, classifier, head_rows, allow_new_head)
    if allow_new_head and any(_TRUNK.match(name) for name in wanted):
        notes += _fit_norms(given, wanted)
    if misfit := Misfit.of(given, wanted):
        whose = identify(state)
        remedy = f"; the file holds the weights of {whose}" if whose else ""
        if all(_is_head(name, classifier) for name in misfit.names):
            remedy = "; only the head differs"
        elif any(_OUTPUT_NORM.match(name) for name in misfit.unexpected):
            remedy += ", as a dense-prediction backbone, which has no head"
        raise CheckpointError(f"{misfit}{remedy}")
    whole = [n for n, t in given.items() if not t.is_floating_point() and wanted[n].is_floating_point()]
    if whole:
        raise CheckpointError(f"weights that are whole numbers: {some(whole)}")
    model.load_state_dict(given, strict=True)
    return notes


def nearest(state: Mapping[str, Tensor]) -> str | None:
    """The registered variant that a HorNet's damaged weights come nearest to; None for no HorNet's."""
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if _TRUNK.match(name)}
    if not any(".gnconv." in name for name in shapes):
        return None
    return max(VARIANTS, key=lambda name: len(_trunk_shapes(name).items() & shapes.items()))


@functools.cache
def _trunk_shapes(variant: str) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        model = timm.create_model(variant, num_classes=0)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if _TRUNK.match(name)}


def _fit_head(
    given: dict[str, Tensor],
    wanted: Mapping[str, Tensor],
    classifier: str,
    head_rows: Tensor | None,
    allow_new_head: bool,
) -> list[str]:
    """Make the file's head fit by `head_rows`, or give way to the model's own head if that is allowed."""
    ours = {name: tensor for name, tensor in wanted.items() if _is_head(name, classifier)}
    theirs = {name: tensor for name, tensor in given.items() if _is_head(name, classifier)}
    here, there = (_classes(head, classifier) for head in (ours, theirs))
    if head_rows is not None:
        if not here or not there:
            raise CheckpointError(
                f"a class map is given, but {'the model' if there else 'the file'} has no head"
            )
        if head_rows.ndim != 1 or head_rows.dtype not in (torch.int64, torch.int32):
            raise CheckpointError("a class map is a 1-d tensor of row numbers, one for each class")
        if head_rows.unique().numel() != head_rows.numel():
            raise CheckpointError("the class map does not fit: it names a row twice")
        if any(tensor.ndim == 0 or tensor.shape[0] != there for tensor in theirs.values()):
            raise CheckpointError(f"the tensors of the file's head do not all have {there} rows")
        low, high = (int(head_rows.min()), int(head_rows.max())) if head_rows.numel() else (0, -1)
        if head_rows.numel() != here or not 0 <= low <= high < there:
            raise CheckpointError(
                f"the class map does not fit: it names {head_rows.numel()} rows {low}..{high}, "
                f"the file's head has {there} rows, the model {here} classes"
            )
        given.update({name: tensor.index_select(0, head_rows) for name, tensor in theirs.items()})
        return [f"took {here} of the head's {there} rows by the class map"]
    widths = [{tensor.shape[1:] for tensor in head.values()} for head in (ours, theirs)]
    damaged = ours and theirs and (ours.keys() != theirs.keys() or widths[0] != widths[1])
    if not allow_new_head or here == there or damaged:
        return []  # it fits, or the comparison tells what does not
    for name in theirs:
        del given[name]
    given.update(ours)
    if not ours:
        return [f"left out the file's head of {there} classes"]
    told = f"the file's has {there} classes" if there else "the file has none"
    return [f"the head of {here} classes starts from its initialisation; {told}"]


def _fit_norms(given: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Adapt what stands between trunk and head: one norm in a classifier, one a stage in a dense backbone.

    Where the file is of the other kind, the model's norms start from their initialisation. Those of stages
    that the model does not put out are left out. Half a norm is never completed.
    """

    def norms(names: Iterable[str]) -> set[str]:
        return {name.split(".")[0] for name in names if _NORM.match(name)}

    theirs, ours = norms(given), norms(wanted)
    if any(f"{norm}.{part}" not in given for norm in theirs for part in ("weight", "bias")):
        return []
    other_kind = bool(theirs) and not theirs & ours
    if ours - theirs and not other_kind:
        return []
    notes = []
    if extra := sorted(theirs - ours):
        for norm in extra:
            del given[f"{norm}.weight"], given[f"{norm}.bias"]
        notes.append(f"left out the file's {', '.join(extra)}")
    if fresh := sorted(ours - theirs):
        given.update({name: tensor for name, tensor in wanted.items() if name.split(".")[0] in fresh})
        notes.append(f"the model's {', '.join(fresh)} starts from its initialisation")
    return notes


def _classes(head: Mapping[str, Tensor], classifier: str) -> int:
    weight = head.get(f"{classifier}.weight")
    return 0 if weight is None or weight.ndim == 0 else weight.shape[0]


def _is_head(name: str, classifier: str) -> bool:
    return name.startswith(f"{classifier}.")
