"""Weights from files to models: safe reading, telling which model a file is for, strict loading.

A file may be ours (safetensors) or anyone's `.pth`; the latter is unpickled with `weights_only=True`, so that
no code in it can run.
"""

from __future__ import annotations

import argparse
import functools
import pickle
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from safetensors import safe_open
from torch import Tensor, nn

from hornet_train.errors import CheckpointError
from hornet_train.models.convert import convert_names, fit_filters
from hornet_train.models.variants import VARIANTS

Prefer = Literal["ema", "model"]
_EMA_KEYS = ("model_ema", "state_dict_ema")
_MODEL_KEYS = ("model", "module", "state_dict")
_PREFIXES = ("module.", "_orig_mod.")
_PICKLED = (".pth", ".pt", ".bin", ".tar")  # the last as in .pth.tar
_TRUNK = re.compile(r"downsample_layers\.|stages\.")
_OUTPUT_NORM = re.compile(r"norm\d\.")  # norm0 .. norm3 of a dense-prediction backbone
_SHOWN = 4


def read_weights(path: str | Path, *, prefer: Prefer = "ema") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a state dict from a file, on CPU, in our names and without the prefixes of DDP and torch.compile.

    Args:
        path: a `.safetensors`, `.pth`, `.pt` or `.bin` file.
        prefer: which weights to take where a file holds both the trained and the averaged ones.

    Returns:
        The state dict, and its origin: "path", "format" ("safetensors" or "pickle"), "key" (where in the file
        the weights were, "" at its top), "ema" (whether these are averaged weights), "metadata" (safetensors'
        strings), "epoch" (None if not told) and "notes" (one sentence for each thing done to the names).

    Raises:
        CheckpointError: the file is missing, damaged, holds code, or holds no weights.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    origin: dict[str, Any] = {"path": str(path), "key": "", "ema": False, "metadata": {}, "epoch": None}
    if path.suffix == ".safetensors":
        state, origin["metadata"] = _read_safetensors(path)
        state, notes = convert_names(_strip(state, path))
        return state, {**origin, "format": "safetensors", "notes": notes}
    if path.suffix not in _PICKLED:
        known = ", ".join((".safetensors", *_PICKLED))
        raise CheckpointError(
            f"{path}: weights are read from {known} files, not from {path.suffix or 'this'}"
        )
    content = _unpickle(path)
    key = _weights_key(content, path, prefer)
    state = content[key] if key else content
    epoch = content.get("epoch") if key else None
    state, notes = convert_names(_strip(_tensors(state, path), path))
    origin |= {"format": "pickle", "key": key, "ema": key in _EMA_KEYS, "epoch": epoch, "notes": notes}
    return state, origin


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
        allow_new_head: keep the model's freshly initialised head where the file's does not fit or is missing,
            and drop the file's where the model has none. So too with the norms between trunk and head: one in
            a classifier, one for each stage in a dense-prediction backbone.
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
    missing = [name for name in wanted if name not in given]
    unexpected = [name for name in given if name not in wanted]
    misshapen = [
        f"{name}: {tuple(given[name].shape)} in the file, {tuple(tensor.shape)} in the model"
        for name, tensor in wanted.items()
        if name in given and given[name].shape != tensor.shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen}
    faults = [f"{kind} ({len(names)}): {_some(names)}" for kind, names in kinds.items() if names]
    if faults:
        name = identify(state)
        guess = f"; the file holds the weights of {name}" if name else ""
        remedy = guess
        differing = [entry.split(":")[0] for names in kinds.values() for entry in names]
        if all(_is_head(name, classifier) for name in differing):
            remedy = "; only the head differs: give the class map, or allow a new head"
        elif any(_OUTPUT_NORM.match(name) for name in unexpected):
            remedy = f"{guess}, as a dense-prediction backbone, which has no head"
        raise CheckpointError(f"made for another model; first keys that differ: {'; '.join(faults)}{remedy}")
    model.load_state_dict(given, strict=True)
    return notes


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except Exception as fault:
        raise CheckpointError(f"{path}: not a whole safetensors file ({_first_line(fault)})") from fault


def _unpickle(path: Path) -> dict[str, Any]:
    """torch.load without code. A damaged or hostile pickle raises nearly anything, so all is caught."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:
        found = re.search(r"GLOBAL (\S+)", str(fault))
        if isinstance(fault, pickle.UnpicklingError) and found:
            raise CheckpointError(
                f"{path}: cannot be read: it holds Python objects or code, which are never run (the first is "
                f"{found[1]}); save the weights alone, as a dict of tensors"
            ) from fault
        raise CheckpointError(
            f"{path}: cannot be read: damaged, cut short, or no checkpoint ({_first_line(fault)})"
        ) from fault
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a checkpoint")
    return content


def _weights_key(content: Mapping[str, Any], path: Path, prefer: Prefer) -> str:
    """Where in a checkpoint the weights are; "" where it is a bare state dict."""
    keys = (*_EMA_KEYS, *_MODEL_KEYS) if prefer == "ema" else (*_MODEL_KEYS, *_EMA_KEYS)
    found = next((key for key in keys if isinstance(content.get(key), Mapping) and content[key]), None)
    if found is not None:
        return found
    if content and all(isinstance(value, Tensor) for value in content.values()):
        return ""
    raise CheckpointError(f"{path}: holds no weights; its keys are: {_some(map(str, content))}")


def _tensors(state: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    odd = [
        str(name)
        for name, value in state.items()
        if not isinstance(name, str) or not isinstance(value, Tensor)
    ]
    if odd:
        raise CheckpointError(f"{path}: not a state dict; entries that are no tensors: {_some(odd)}")
    return dict(state)


def _strip(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    bare: dict[str, Tensor] = {}
    for full, tensor in state.items():
        name = full
        while name.startswith(_PREFIXES):
            name = name.split(".", 1)[1]
        if name in bare:
            raise CheckpointError(
                f"{path}: two tensors are called {name!r} once the wrappers' prefixes are gone"
            )
        bare[name] = tensor
    return bare


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
        if head_rows.ndim != 1 or head_rows.is_floating_point():
            raise CheckpointError("a class map is a list of row numbers, one for each class")
        low, high = (int(head_rows.min()), int(head_rows.max())) if head_rows.numel() else (0, -1)
        if head_rows.numel() != here or not 0 <= low <= high < there:
            raise CheckpointError(
                f"the class map does not fit: it names {head_rows.numel()} rows {low}..{high}, "
                f"the file's head has {there} rows, the model {here} classes"
            )
        given.update({name: tensor.index_select(0, head_rows) for name, tensor in theirs.items()})
        return [f"took {here} of the head's {there} rows by the class map"]
    if {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}:
        return []
    if not allow_new_head:
        return []
    for name in theirs:
        del given[name]
    given.update(ours)
    if not ours:
        return [f"left out the file's head of {there} classes"]
    told = f"the file's has {there} classes" if there else "the file has none"
    return [f"the head of {here} classes starts from its initialisation; {told}"]


def _fit_norms(given: dict[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Leave out and begin anew what stands between trunk and head, where only one of the two has it."""

    def between(name: str) -> bool:
        return name.startswith("norm.") or _OUTPUT_NORM.match(name) is not None

    notes = []
    if extra := [name for name in given if between(name) and name not in wanted]:
        for name in extra:
            del given[name]
        notes.append(f"left out the file's {_norm_names(extra)}")
    if fresh := [name for name in wanted if between(name) and name not in given]:
        given.update({name: wanted[name] for name in fresh})
        notes.append(f"the model's {_norm_names(fresh)} starts from its initialisation")
    return notes


def _norm_names(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(name.split(".")[0] for name in names))


def _classes(head: Mapping[str, Tensor], classifier: str) -> int:
    return head[f"{classifier}.weight"].shape[0] if f"{classifier}.weight" in head else 0


def _is_head(name: str, classifier: str) -> bool:
    return name.startswith(f"{classifier}.")


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _first_line(fault: Exception) -> str:
    return (str(fault).strip() or type(fault).__name__).splitlines()[0][:200]
