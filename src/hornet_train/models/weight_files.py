"""Weights from files: safe reading. A file may be ours (safetensors) or anyone's `.pth`.

The latter is unpickled such that no code in it can run (`unpickling`).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hornet_train.errors import CheckpointError
from hornet_train.models.convert import convert_names, has_dense_head, some
from hornet_train.models.unpickling import unpickle
from hornet_train.models.wrappers import Prefer, averaged_parts, of_one_kind, without_counter
from hornet_train.untrusted import check_header, open_regular

_EMA_KEYS = ("model_ema", "state_dict_ema", "ema_state_dict")
_MODEL_KEYS = ("model", "module", "state_dict")
_RAW_KEY, _AVERAGED_KEY = "current_model_state", "state_dict"  # of Lightning's WeightAveraging
_PREFIXES = ("module.", "_orig_mod.")
_PICKLED = (".pth", ".pt", ".bin", ".ckpt", ".tar")  # the last as in .pth.tar


def read_weights(
    path: str | Path, *, prefer: Prefer = "ema", whole: bool = False
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a state dict from a file, on CPU, in our names and without the prefixes of DDP and torch.compile.

    Args:
        path: a `.safetensors`, `.pth`, `.pt`, `.bin` or `.ckpt` file.
        prefer: which weights to take where a file holds both the trained and the averaged ones.
        whole: keep the heads of a model for dense prediction beside its backbone.

    Returns:
        The state dict, and its origin: "path", "format" ("safetensors" or "pickle"), "key" (where in the file
        the weights were, "" at its top), "ema" (whether these are averaged weights), "metadata" (safetensors'
        strings), "epoch" (None where the file does not say), "settings" (what a training of timm or
        torchvision keeps of its own: `arch` and its arguments) and "notes" (one sentence for each thing done
        to the names).

    Raises:
        CheckpointError: the file is missing, damaged, holds code, or holds no weights.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: {'a folder, not a file' if path.is_dir() else 'no such file'}")
    origin: dict[str, Any] = {"path": str(path), "key": "", "ema": False, "metadata": {}, "epoch": None}
    origin["settings"] = {}
    if path.suffix == ".safetensors":
        state, origin["metadata"] = _read_safetensors(path)
        state, notes, averaged = _plain(state, path, prefer, whole)
        return state, {**origin, "format": "safetensors", "ema": averaged, "notes": notes}
    if path.suffix not in _PICKLED:
        known = ", ".join((".safetensors", *_PICKLED))
        raise CheckpointError(
            f"{path}: weights are read from {known} files, not from {path.suffix or 'this'}"
        )
    content = unpickle(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a checkpoint")
    key = _weights_key(content, path, prefer)
    state = content[key] if key else content
    epoch = content.get("epoch") if key else None
    state, notes, averaged = _plain(state, path, prefer, whole)
    averaged |= key in _EMA_KEYS or (key == _AVERAGED_KEY and _averaged_in_place(content))
    origin |= {"format": "pickle", "key": key, "ema": averaged, "epoch": epoch}
    return state, {**origin, "notes": notes, "settings": _settings(content) if key else {}}


def _plain(
    state: Mapping[Any, Any], path: Path, prefer: Prefer, whole: bool
) -> tuple[dict[str, Tensor], list[str], bool]:
    """Tensors in our names, what was done to them, and whether they are the average of a model."""
    bare, counted = without_counter(_strip(_tensors(state, path), path))
    kept, left_out = of_one_kind(bare, prefer)
    averages = {id(kept[name]) for name in averaged_parts(bare) if name in kept}
    taken, notes = (kept, []) if whole and has_dense_head(kept) else _in_our_names(kept, path)
    mostly = 2 * sum(id(tensor) in averages for tensor in taken.values()) > len(taken)
    return taken, [*counted, *left_out, *notes], bool(counted) or mostly


def _settings(content: Mapping[str, Any]) -> dict[str, Any]:
    """`arch` and the arguments that trainings of timm and torchvision keep beside the weights."""
    args = content.get("args")
    kept = dict(vars(args)) if isinstance(args, argparse.Namespace) else {}
    arch = content.get("arch") or kept.get("model") or kept.get("arch")
    return {**kept, "arch": arch} if isinstance(arch, str) else {}


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with open_regular(path) as start:
            check_header(start.read(8))
        with safe_open(str(path), framework="pt", device="cpu") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError, KeyError) as fault:  # KeyError: a kind that torch lacks
        raise CheckpointError(f"{path}: not a complete safetensors file ({_first_line(fault)})") from fault


def _in_our_names(state: dict[str, Tensor], path: Path) -> tuple[dict[str, Tensor], list[str]]:
    try:
        return convert_names(state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _weights_key(content: Mapping[str, Any], path: Path, prefer: Prefer) -> str:
    """Where in a checkpoint the weights are; "" where it is a bare state dict."""
    averaged: tuple[str, ...] = _EMA_KEYS
    raw: tuple[str, ...] = _MODEL_KEYS
    if _averaged_in_place(content):
        averaged, raw = (_AVERAGED_KEY,), (_RAW_KEY,)
    keys = (*averaged, *raw) if prefer == "ema" else (*raw, *averaged)
    found = next((key for key in keys if isinstance(content.get(key), Mapping) and content[key]), None)
    if found is not None:
        return found
    if any(isinstance(value, Tensor) for value in content.values()):
        return ""  # bare
    inside = f"its keys are: {some(map(str, content))}" if content else "it is empty"
    raise CheckpointError(f"{path}: holds no weights; {inside}")


def _averaged_in_place(content: Mapping[str, Any]) -> bool:
    """Whether averaged weights stand where the trained ones do otherwise, and these beside them."""
    return isinstance(content.get(_RAW_KEY), Mapping)


def _tensors(state: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    odd = [
        str(name)
        for name, value in state.items()
        if not isinstance(name, str) or not isinstance(value, Tensor)
    ]
    if odd:
        raise CheckpointError(f"{path}: not a state dict; entries that are no tensors: {some(odd)}")
    strange = [
        f"{name} ({tensor.dtype}, {tensor.layout})"
        for name, tensor in state.items()
        if tensor.is_complex() or tensor.is_meta or tensor.layout != torch.strided
    ]
    if strange:
        raise CheckpointError(f"{path}: tensors that are no dense real numbers: {some(strange)}")
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


def _first_line(fault: Exception) -> str:
    return (str(fault).strip() or type(fault).__name__).splitlines()[0][:200]
