"""Files of torch itself: torch.export's programs, and TorchScript."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hornet_train.errors import ConfigError
from hornet_train.export.comparison import Run
from hornet_train.export.plain_graph import example_of, free_dimensions
from hornet_train.models.spec import MODEL_ERRORS, first_line

_TEXTS = "provenance.json"  # the file within both that holds the texts


def write_pt2(
    model: nn.Module, images: Tensor, path: Path, *, any_size: bool, texts: Mapping[str, str]
) -> None:
    """Write a model of images (B, C, H, W), for any B; see `write_onnx`.

    Raises:
        ConfigError: the model cannot be written so.
    """
    axes = free_dimensions(any_size=any_size)
    try:
        with torch.no_grad():
            program = torch.export.export(model, (example_of(images),), dynamic_shapes=axes, strict=False)
    except MODEL_ERRORS as error:
        raise _refused("torch.export", error) from error
    for node in program.graph.nodes:  # which would name files of this machine
        for key in ("stack_trace", "nn_module_stack", "source_fn_stack"):
            node.meta.pop(key, None)
    torch.export.save(program, path, extra_files={_TEXTS: json.dumps(dict(texts))})


def open_pt2(path: Path) -> Run:
    """A program from a file, ready to run."""
    run: Run = torch.export.load(path).module()
    return run


def write_torchscript(model: nn.Module, images: Tensor, path: Path, *, texts: Mapping[str, str]) -> None:
    """Write a model of images (B, C, H, W), for any B, by a trace.

    Raises:
        ConfigError: the model cannot be written so.
    """
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # that TorchScript is deprecated, and that traces are traces
            traced: Any = torch.jit.trace(model, (example_of(images),), check_trace=False)
            traced = torch.jit.freeze(traced)
            torch.jit.save(traced, str(path), _extra_files={_TEXTS: json.dumps(dict(texts))})
            _forget_sources(path)
    except MODEL_ERRORS as error:
        raise _refused("TorchScript", error) from error


def _forget_sources(path: Path) -> None:
    """Leave out which lines of which files of this machine the operations are from."""
    whole = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(whole)) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as new:
        for entry in old.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                new.writestr(zipfile.ZipInfo(entry.filename), old.read(entry))


def open_torchscript(path: Path) -> Run:
    """A TorchScript file, ready to run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run: Run = torch.jit.load(str(path))
    return run


def _refused(what: str, error: Exception) -> ConfigError:
    return ConfigError([f"this model cannot be written by {what} ({first_line(error)})"])
