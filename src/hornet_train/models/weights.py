"""Load weights into models: recognise which model they are for, and load strictly."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping

import timm
import torch
from torch import Tensor, nn

from hornet_train.errors import CheckpointError
from hornet_train.models.convert import STEM, Misfit, fit_filters, trunk
from hornet_train.models.stem import channels_apart, fit_stem, stem_name
from hornet_train.models.variants import VARIANTS
from hornet_train.models.wrappers import unwrapped

_OUTPUT_NORM = re.compile(r"norm\d\.")  # norm0 .. norm3 of a dense-prediction backbone
_NORM = re.compile(r"norm\d?\.(weight|bias)$")


def identify(state: Mapping[str, Tensor]) -> str | None:
    """The registered variant whose trunk has the names and shapes of `state`'s, or None.

    The channels of its images may be others than three.
    """
    stem = state.get(STEM)
    if stem is None or stem.ndim == 0:
        return None
    alike = (name for name, row in VARIANTS.items() if row.dim == stem.shape[0])  # spares building others
    theirs = _shapes(trunk(state))
    return next((name for name in alike if _shapes(_trunk_of(name)) == theirs), None)


def nearest(state: Mapping[str, Tensor]) -> tuple[str, Misfit] | None:
    """The registered variant that a HorNet's trunk comes nearest to, and what differs; else None."""
    theirs = trunk(state)
    if not any(".gnconv." in name for name in theirs):
        return None
    shapes = _shapes(theirs).items()
    name = max(VARIANTS, key=lambda name: len(_shapes(_trunk_of(name)).items() & shapes))
    return name, Misfit.of(theirs, _trunk_of(name))


def class_map(rows: object) -> Tensor:
    """A class map as it should be, int64: which row of a larger head each class takes.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(rows, Tensor) or rows.ndim != 1 or rows.dtype not in (torch.int64, torch.int32):
        raise ValueError("a class map is a 1-d integer tensor of row numbers, one for each class")
    if rows.unique().numel() != rows.numel():
        raise ValueError("it names a row twice")
    return rows.long()


def load_into(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    head_rows: Tensor | None = None,
    resize_filters: bool = True,
    allow_new_head: bool = False,
    other_classes: bool = False,
    adapt_stem: bool = False,
    classifier: str = "head",
) -> list[str]:
    """Load weights strictly; on a misfit the model is left as it was.

    Args:
        model: the bare model, not its DDP or compiled wrapper.
        state: names and tensors, as `read_weights` gives them.
        head_rows: a row of the file's head for each class of the model (the 22K -> 1K map); see `class_map`.
        resize_filters: resize global filters of another grid, once, bilinearly with aligned corners.
        allow_new_head: keep the model's freshly initialised head where the file's is for another number of
            classes or missing, and drop the file's where the model has none. So too with the norms between
            trunk and head, where one is a classifier and the other a dense-prediction backbone.
        other_classes: with `allow_new_head`, whether the file's head is of other classes also where they are
            as many.
        adapt_stem: adapt the first convolution to images of other channels; see `fit_stem`.
        classifier: the name of the model's head, timm's `classifier`.

    Returns:
        One sentence for each thing done beyond copying.

    Raises:
        CheckpointError: missing, unexpected or misshapen tensors, all named in one message.
    """
    wanted = model.state_dict()
    given, notes = unwrapped(state, wanted)
    stem = stem_name(model)
    if resize_filters:
        notes += fit_filters(given, wanted)
    if adapt_stem:
        notes += fit_stem(given, wanted, stem)
    notes += _fit_head(given, wanted, classifier, head_rows, allow_new_head, other_classes)
    if allow_new_head and trunk(wanted):
        notes += _fit_norms(given, wanted)
    if misfit := Misfit.of(given, wanted):
        whose = identify(state)
        remedy = f"; the file holds the weights of {whose}" if whose else ""
        if all(_is_head(name, classifier) for name in misfit.names):
            remedy = "; only the head differs"
        elif stem is not None and misfit.names == [stem] and channels_apart(given, wanted, stem):
            remedy = f"; the file's is for images of other channels: model.in_chans={given[stem].shape[1]}"
        elif any(_OUTPUT_NORM.match(name) for name in misfit.unexpected):
            remedy += ", as a dense-prediction backbone, which has no head"
        raise CheckpointError(f"made for another model; first keys that differ: {misfit}{remedy}")
    model.load_state_dict(given, strict=True)
    return notes


@functools.cache
def _trunk_of(variant: str) -> dict[str, Tensor]:
    """A variant's trunk, on the meta device."""
    return trunk(timm.create_model(variant, num_classes=0, device="meta").state_dict())


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Those of a trunk, whatever the channels of its images."""
    return {
        name: tuple(size for axis, size in enumerate(tensor.shape) if name != STEM or axis != 1)
        for name, tensor in state.items()
    }


def _fit_head(
    given: dict[str, Tensor],
    wanted: Mapping[str, Tensor],
    classifier: str,
    head_rows: Tensor | None,
    allow_new_head: bool,
    other_classes: bool,
) -> list[str]:
    """Make the file's head fit by `head_rows`, or give way to the model's own head if that is allowed."""
    ours = {name: tensor for name, tensor in wanted.items() if _is_head(name, classifier)}
    theirs = {name: tensor for name, tensor in given.items() if _is_head(name, classifier)}
    here, there = (_classes(head, classifier) for head in (ours, theirs))
    if head_rows is not None:
        given.update(_rows_of(theirs, there, head_rows, here))
        return [f"took {here} of the head's {there} rows by the class map"]
    widths = [{tensor.shape[1:] for tensor in head.values()} for head in (ours, theirs)]
    damaged = ours and theirs and (ours.keys() != theirs.keys() or widths[0] != widths[1])
    if not allow_new_head or (here == there and not other_classes) or damaged:
        return []  # it fits, or the comparison will report what does not
    for name in theirs:
        del given[name]
    given.update(ours)
    if not ours:
        return [f"left out the file's head of {there} classes"]
    other = "other " if here == there else ""
    theirs_has = f"the file's has {there} {other}classes" if there else "the file has none"
    return [f"the head of {here} classes starts from its initialisation; {theirs_has}"]


def _rows_of(head: Mapping[str, Tensor], there: int, rows: Tensor, here: int) -> dict[str, Tensor]:
    """The head of `here` classes from rows of one of `there`.

    Raises:
        CheckpointError: they do not fit.
    """
    if not here or not there:
        raise CheckpointError(f"a class map is given, but {'the model' if there else 'the file'} has no head")
    try:
        rows = class_map(rows)
    except ValueError as error:
        raise CheckpointError(f"the class map does not fit: {error}") from error
    if any(tensor.ndim == 0 or tensor.shape[0] != there for tensor in head.values()):
        raise CheckpointError(f"the tensors of the file's head do not all have {there} rows")
    low, high = (int(rows.min()), int(rows.max())) if rows.numel() else (0, -1)
    if rows.numel() != here or not 0 <= low <= high < there:
        raise CheckpointError(
            f"the class map does not fit: it names {rows.numel()} rows {low}..{high}, the file's head has "
            f"{there} rows, the model {here} classes"
        )
    return {name: tensor.index_select(0, rows) for name, tensor in head.items()}


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
