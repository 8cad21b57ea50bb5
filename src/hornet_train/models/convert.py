"""Names and grids of other programs' checkpoints -> ours, which are those of the published classification.

Three layouts are recognised by their names, for HorNet only; any other state dict stays as it is:

published        downsample_layers.., stages.., norm, head
mmpretrain       the same with backbone., head.fc., gnconv.projs., gamma1.weight; its last norm is norm3
dense prediction (published, or by mmseg and mmdet) backbone. and no norm, no head, but norm0 .. norm3
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hornet_train.errors import CheckpointError
from hornet_train.models.spectrum import resize_filter
from hornet_train.models.wrappers import unwrapped

STEM = "downsample_layers.0.0.weight"
_BACKBONE = "backbone."
_HEAD = "head.fc."
_DENSE_HEADS = ("decode_head", "rpn_head", "roi_head")
_SHOWN = 4


def convert_names(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Give the weights of a HorNet our names. Of a larger model the HorNet in it is taken alone.

    Returns:
        The weights, and one sentence for each thing that was done.

    Raises:
        CheckpointError: two tensors would have one name.
    """
    given, notes = _out_of_a_wrapper(state)
    inside = {name.removeprefix(_BACKBONE): name for name in given if name.startswith(_BACKBONE)}
    if not _is_hornet(inside or given):
        return given, []
    if inside:
        left_out = Counter(name.split(".")[0] for name in given if not name.startswith((_BACKBONE, "head.")))
        heads = {name: given[name] for name in given if name.startswith("head.")}
        given = {**{name: given[full] for name, full in inside.items()}, **heads}
        if left_out:
            parts = ", ".join(f"{part} ({count})" for part, count in left_out.items())
            notes.append(f"took the backbone and left out the tensors of {parts}")
    ours: dict[str, Tensor] = {}
    for name, tensor in given.items():
        if (translated := _our_name(name)) in ours:
            raise CheckpointError(f"two tensors are both {translated!r} in our names: {name!r} is one")
        ours[translated] = tensor
    if ours.keys() != given.keys():
        notes.append("translated mmpretrain's names")
        norms = {name for name in ours if name.startswith("norm")}
        if norms == {"norm3.weight", "norm3.bias"}:  # it counts the one norm of a classifier by its stage
            ours |= {f"norm.{part}": ours.pop(f"norm3.{part}") for part in ("weight", "bias")}
    return ours, notes


def has_dense_head(state: Mapping[str, object]) -> bool:
    """Whether these are weights of a whole model for dense prediction, in the names of mmseg and mmdet."""
    parts = {name.split(".")[0] for name in state}
    return "backbone" in parts and not parts.isdisjoint(_DENSE_HEADS)


def _is_hornet(state: Mapping[str, object]) -> bool:
    return STEM in state and any(".gnconv." in name for name in state)


def _our_name(name: str) -> str:
    name = re.sub(r"\.gnconv\.projs\.(\d+)\.", r".gnconv.pws.\1.", name)
    name = re.sub(r"\.(gamma[12])\.weight$", r".\1", name)
    return name.replace(_HEAD, "head.", 1) if name.startswith(_HEAD) else name


def _out_of_a_wrapper(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """A HorNet that another tool keeps behind a prefix (`net.`, `model.`), averaged weights (`ema`) first."""
    starts = [full.removesuffix(STEM).removesuffix(_BACKBONE) for full in state if full.endswith(f".{STEM}")]
    prefixes = sorted({one for one in starts if one}, key=lambda one: ("ema" not in one.lower(), len(one)))
    if not prefixes or STEM in state:
        return dict(state), []
    return unwrapped(
        state, [full.removeprefix(prefixes[0]) for full in state if full.startswith(prefixes[0])]
    )


def trunk(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of stem, downsamplers and stages: what stays whatever stands on a HorNet."""
    parts = ("downsample_layers.", "stages.")
    return {name: tensor for name, tensor in state.items() if name.startswith(parts)}


def fit_filters(given: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Resize each global filter of another grid in `given`, bilinearly with aligned corners.

    Returns:
        One sentence for each pair of grids.
    """
    changes: Counter[str] = Counter()
    for name, tensor in wanted.items():
        if not name.endswith("complex_weight") or name not in given or given[name].ndim != 4:
            continue
        (old_half, *old, old_parts), (half, *new, parts) = given[name].shape, tensor.shape
        if old != new and (old_half, old_parts) == (half, parts) and min(old) > 0:
            precise = torch.promote_types(given[name].dtype, torch.float32)
            given[name] = resize_filter(given[name].to(precise), new[0], new[1])
            changes[f"from {old[0]} x {old[1]} to {new[0]} x {new[1]}"] += 1
    return [f"resized {count} global filter(s) {change}" for change, count in changes.items()]


@dataclass(frozen=True)
class Misfit:
    """Why a file's tensors cannot be loaded into a model; false where they can."""

    missing: list[str]
    unexpected: list[str]
    misshapen: dict[str, str]  # name -> both shapes
    integers: list[str]  # integer tensors where the model has floating-point ones

    @classmethod
    def of(cls, given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Misfit:
        """Compare a file's tensors with a model's, by name, shape and kind of number."""
        return cls(
            missing=[name for name in wanted if name not in given],
            unexpected=[name for name in given if name not in wanted],
            misshapen={
                name: f"{name}: {tuple(given[name].shape)} in the file, {tuple(tensor.shape)} in the model"
                for name, tensor in wanted.items()
                if name in given and given[name].shape != tensor.shape
            },
            integers=[
                name
                for name, tensor in wanted.items()
                if name in given and tensor.is_floating_point() and not given[name].is_floating_point()
            ],
        )

    @property
    def names(self) -> list[str]:
        return [*self.missing, *self.unexpected, *self.misshapen, *self.integers]

    def __bool__(self) -> bool:
        return bool(self.names)

    def __str__(self) -> str:
        kinds = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "misshapen": list(self.misshapen.values()),
            "whole numbers": self.integers,
        }
        return "; ".join(f"{kind} ({len(names)}): {some(names)}" for kind, names in kinds.items() if names)


def some(names: Iterable[str]) -> str:
    """The first few of a list, and how many more there are."""
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
