"""Checkpoints: a folder a step, of safetensors and JSON, with a manifest of SHA-256 sums.

    checkpoints/step_00001200/  model.safetensors  ema.safetensors  optimizer.safetensors
                                state.json  config.yaml  manifest.json
    checkpoints/last            the name of the newest step folder
    checkpoints/best            the name of the best one

A folder is written beside its place under a hidden name, flushed to the disk, and renamed; `last` and `best`
are repointed after that. So at any instant every step folder is complete. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from hornet_train.engine.state import TensorGroups, checked_numbers
from hornet_train.errors import CheckpointError
from hornet_train.track.files import sync_folder, write_bytes, write_through
from hornet_train.untrusted import MAX_JSON, MB, check_header, open_plain, parse_json, read_text, read_within

FORMAT = 1
_log = logging.getLogger("hornet_train")
_POINTER = 1000  # bytes of a pointer, at most
_STEP = re.compile(r"step_(\d{8,})")


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was read and whose sums match; `texts` are its further files, by name."""

    folder: Path
    tensors: TensorGroups
    numbers: dict[str, Any]
    texts: dict[str, str]


class CheckpointStore:
    """The `checkpoints` folder of a run.

    Args:
        folder: made when the first checkpoint is written.
        keep: how many of the newest to keep; the best and the last are never removed.
        texts: further files of every checkpoint, such as config.yaml.
        metadata: goes into the header of the weights' safetensors, so that one alone tells what it is.
    """

    def __init__(
        self,
        folder: Path,
        *,
        keep: int,
        texts: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.keep = keep
        self.texts = dict(texts or {})
        self.metadata = {"format": "pt", **(metadata or {})}

    def save(self, tensors: TensorGroups, numbers: Mapping[str, Any]) -> Path:
        """Write the checkpoint of step `numbers["step"]`, repoint `last` and `best`, prune.

        Raises:
            CheckpointError: the file system refuses (full, read-only); older checkpoints stand as they were.
        """
        try:
            return self._save(tensors, numbers)
        except OSError as error:
            raise CheckpointError(f"{self.folder} cannot be written ({error.strerror})") from error

    def _save(self, tensors: TensorGroups, numbers: Mapping[str, Any]) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clean()
        name = step_name(numbers["step"])
        hidden = self.folder / f".{name}.writing"
        hidden.mkdir()
        files: dict[str, dict[str, Any]] = {}
        for group, named in tensors.items():
            metadata = self.metadata if group != "optimizer" else {"format": "pt"}
            data = safetensors.torch.save(_storable(named), metadata=metadata)
            files[f"{group}.safetensors"] = _put(hidden / f"{group}.safetensors", data)
        for file, text in (*self.texts.items(), ("state.json", json.dumps(dict(numbers), indent=2))):
            files[file] = _put(hidden / file, text.encode())
        manifest = {"format": FORMAT, "step": numbers["step"], "files": files}
        _put(hidden / "manifest.json", json.dumps(manifest, indent=2).encode())
        sync_folder(hidden)
        place = self.folder / name
        if place.exists():  # a damaged one that the run has come past again
            place.rename(self.folder / f".{name}.old")
        hidden.rename(place)
        sync_folder(self.folder)
        self.point(last=name, best=step_name(numbers["best"]["step"]) if numbers["best"] else None)
        self.clean()
        self.prune()
        return place

    def point(self, *, last: str, best: str | None) -> None:
        """Write the two pointers; `best` only where that checkpoint is there."""
        write_bytes(self.folder / "last", f"{last}\n".encode())
        if best is not None and (self.folder / best).is_dir():
            write_bytes(self.folder / "best", f"{best}\n".encode())

    def steps(self) -> list[Path]:
        """The step folders, oldest first."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if path.is_dir() and _STEP.fullmatch(path.name)]
        return sorted(found, key=step_of)

    def prune(self) -> None:
        """Remove the old ones, never the best or the last."""
        precious = {pointed(self.folder, "last"), pointed(self.folder, "best")}
        for path in self.steps()[: -self.keep]:
            if path.name not in precious:
                path.rename(self.folder / f".{path.name}.old")  # gone under its name before it is in pieces
        self.clean()

    def clean(self) -> None:
        """Remove what interrupted writes and pruning left behind."""
        for path in self.folder.glob(".step_*"):
            try:
                shutil.rmtree(path)
            except OSError as error:  # somebody on a network file system reads it: the next time will do
                _log.warning("%s cannot be removed yet (%s)", path, error.strerror)

    def newest(self) -> tuple[Path | None, list[str]]:
        """The newest step folder whose sums match, and why each newer one was passed over.

        Raises:
            CheckpointError: there are checkpoints, and not one of them is good.
        """
        passed_over: list[str] = []
        for path in reversed(self.steps()):
            try:
                return read_checkpoint(path).folder, passed_over
            except CheckpointError as error:
                passed_over.append(str(error))
        if passed_over:
            raise CheckpointError(
                "no checkpoint of this run can be used:\n  " + "\n  ".join(passed_over) + "\n"
                "start anew with resume=restart (the old run folder is kept under another name)"
            )
        return None, []


def step_name(step: int) -> str:
    return f"step_{step:08d}"


def step_of(path: Path) -> int:
    match = _STEP.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path} is not a step folder")
    return int(match[1])


def pointed(folder: Path, pointer: str) -> str | None:
    """The step folder's name in `last` or `best`; None where there is none."""
    try:
        name = read_text(folder / pointer, _POINTER).strip()
    except (FileNotFoundError, ValueError):
        return None
    except OSError as error:
        raise CheckpointError(f"{folder / pointer} cannot be read ({error.strerror})") from error
    return name if _STEP.fullmatch(name) else None


def locate(path: Path, groups: tuple[str, ...] = ("model", "ema")) -> tuple[Saved, list[str]]:
    """The checkpoint that a run folder, a `checkpoints` folder or a step folder stands for.

    Of a run it is the best whose sums match, else the last, else the newest good one.

    Args:
        path: the folder.
        groups: which safetensors to read and check.

    Returns:
        The checkpoint, and a sentence for each better choice that was passed over.

    Raises:
        CheckpointError: there is none, or none is good.
    """
    if (path / "manifest.json").exists() or _STEP.fullmatch(path.name):
        return read_checkpoint(path, groups), []
    folder = path if path.name == "checkpoints" else path / "checkpoints"
    store = CheckpointStore(folder, keep=1)
    names = [pointed(folder, "best"), pointed(folder, "last"), *(p.name for p in reversed(store.steps()))]
    passed_over: list[str] = []
    for name in dict.fromkeys(name for name in names if name is not None):
        try:
            return read_checkpoint(folder / name, groups), passed_over
        except CheckpointError as error:
            passed_over.append(f"passed over: {error}")
    raise CheckpointError("\n  ".join([f"{path} holds no usable checkpoint", *passed_over]))


def read_checkpoint(folder: Path, groups: tuple[str, ...] | None = None) -> Saved:
    """Read a step folder after checking it against its manifest.

    Args:
        folder: a step folder.
        groups: which safetensors to read (`model`, `ema`, `optimizer`); None for all.

    Raises:
        CheckpointError: a file is missing, truncated or altered, or the format is not ours.
    """
    try:
        manifest = parse_json(read_within(folder / "manifest.json", MB))
        files, version = manifest["files"], manifest["format"]
        expected = {str(name): (int(entry["bytes"]), str(entry["sha256"])) for name, entry in files.items()}
    except FileNotFoundError:
        raise CheckpointError(f"{folder} has no manifest.json: it is not a complete checkpoint") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{folder / 'manifest.json'} is damaged ({error})") from None
    if version != FORMAT:
        raise CheckpointError(f"{folder} has checkpoint format {version}, this program reads {FORMAT}")
    tensors: TensorGroups = {}
    numbers: dict[str, Any] | None = None
    texts: dict[str, str] = {}
    for name, (size, digest) in expected.items():
        group = name.removesuffix(".safetensors")
        if name != Path(name).name:
            raise CheckpointError(f"{folder / 'manifest.json'} names a file outside of its folder: {name!r}")
        if groups is not None and name.endswith(".safetensors") and group not in groups:
            continue
        if size > MAX_JSON and not name.endswith(".safetensors"):
            raise CheckpointError(f"{folder / name} is to have {size:,} bytes, and {MAX_JSON:,} is the limit")
        data = _verified(folder / name, size, digest)
        try:
            if name.endswith(".safetensors"):
                check_header(data[:8])
                tensors[group] = safetensors.torch.load(data)
            elif name == "state.json":
                numbers = checked_numbers(parse_json(data))
            else:
                texts[name] = data.decode()
        except (SafetensorError, ValueError, KeyError) as error:  # KeyError: a kind of numbers torch lacks
            raise CheckpointError(f"{folder / name} cannot be read ({error})") from None
    if numbers is None or (groups is None and not {"model", "optimizer"} <= set(tensors)):
        raise CheckpointError(f"{folder / 'manifest.json'} does not list all files of a checkpoint")
    return Saved(folder, tensors, numbers, texts)


def _verified(path: Path, size: int, digest: str) -> bytes:
    try:
        with open_plain(path) as file:
            length = os.fstat(file.fileno()).st_size
            data = file.readall() if length == size else b""  # one of another size is not read
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from None
    if length != size:
        raise CheckpointError(f"{path} is damaged: it has {length} bytes instead of {size}")
    if hashlib.sha256(data).hexdigest() != digest:
        raise CheckpointError(f"{path} is damaged: its SHA-256 does not match the manifest")
    return data


def _storable(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Dense tensors on the CPU, no two of which share memory (tied weights are stored twice)."""
    seen: set[int] = set()
    stored = {}
    for name, tensor in named.items():
        value = tensor.detach().to("cpu").contiguous()
        if value.untyped_storage().data_ptr() in seen:
            value = value.clone()
        seen.add(value.untyped_storage().data_ptr())
        stored[name] = value
    return stored


def _put(path: Path, data: bytes) -> dict[str, Any]:
    """Write a file through to the disk; its entry in the manifest."""
    write_through(path, data)
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
