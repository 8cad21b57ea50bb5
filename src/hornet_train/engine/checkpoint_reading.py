"""Step folders read back: what their manifest promises is checked before anything is believed."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError

from hornet_train.engine.state import TensorGroups, check_numbers
from hornet_train.errors import CheckpointError
from hornet_train.track.files import PIECE, TRAFFIC
from hornet_train.untrusted import MAX_JSON, MB, check_header, open_plain, parse_json, read_text, read_within

FORMAT = 1
_POINTER = 100  # bytes of a pointer, at most
_STEP = re.compile(r"step_([0-9]{8,18})")
_REPLACED = re.compile(r"\.(step_[0-9]{8,18})\.replaced")
_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")  # names of files in the folder itself


@dataclass(frozen=True)
class Saved:
    """A checkpoint that was read and whose sums match; `texts` are its further files, by name."""

    folder: Path
    tensors: TensorGroups
    numbers: dict[str, Any]
    texts: dict[str, str]


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint is said to hold: size in bytes and SHA-256 of each file."""

    step: int
    files: dict[str, tuple[int, str]]


def step_name(step: int) -> str:
    return f"step_{step:08d}"


def step_of(name: str) -> int | None:
    """The step of a folder of that name, also of one that is being replaced; None for other names."""
    replaced = _REPLACED.fullmatch(name)
    match = _STEP.fullmatch(replaced[1] if replaced else name)
    step = int(match[1]) if match else -1
    return step if match and match[0] == step_name(step) else None


def pointed(folder: Path, pointer: str) -> str | None:
    """The step folder's name in `last` or `best`; None where there is none."""
    try:
        name = read_text(folder / pointer, _POINTER).strip()
    except (OSError, ValueError):  # none, or none of ours: the folders themselves tell enough
        return None
    return name if _STEP.fullmatch(name) and step_of(name) is not None else None


def looks_whole(folder: Path) -> bool:
    """Whether a step folder has all its files in full length; their sums are not computed."""
    try:
        return all(
            (folder / name).stat().st_size == size for name, (size, _) in read_manifest(folder).files.items()
        )
    except (OSError, CheckpointError):
        return False


def read_checkpoint(folder: Path, groups: tuple[str, ...] | None = None) -> Saved:
    """Read a step folder after checking it against its manifest.

    Args:
        folder: a step folder.
        groups: which safetensors to read (`model`, `ema`, `optimizer`); None for all.

    Raises:
        CheckpointError: a file is missing, truncated or altered, or the format is not ours.
    """
    manifest = read_manifest(folder)
    tensors: TensorGroups = {}
    numbers: dict[str, Any] | None = None
    texts: dict[str, str] = {}
    for name, (size, digest) in manifest.files.items():
        group = name.removesuffix(".safetensors")
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
                numbers = check_numbers(parse_json(data))
            else:
                texts[name] = data.decode()
        except (SafetensorError, ValueError, LookupError, TypeError, RuntimeError) as error:
            raise CheckpointError(f"{folder / name} cannot be read ({_brief(error)})") from None
    if numbers is None or (groups is None and not {"model", "optimizer"} <= set(tensors)):
        raise CheckpointError(f"{folder / 'manifest.json'} does not list all files of a checkpoint")
    named = step_of(folder.name)
    if numbers["step"] != manifest.step or named not in (None, manifest.step):
        raise CheckpointError(f"{folder} holds the checkpoint of another step, {numbers['step']}")
    return Saved(folder, tensors, numbers, texts)


def read_manifest(folder: Path) -> Manifest:
    """What a step folder should hold.

    Raises:
        CheckpointError: there is no manifest, or it is damaged or of another format.
    """
    path = folder / "manifest.json"
    try:
        told = parse_json(read_within(path, MB))
        files, version, step = told["files"], told["format"], told["step"]
        promised = {name: (entry["bytes"], entry["sha256"]) for name, entry in files.items()}
    except FileNotFoundError:
        if not os.path.lexists(folder):
            raise CheckpointError(f"{folder} is not there") from None
        raise CheckpointError(f"{folder} has no manifest.json: it is not a complete checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged ({_brief(error)})") from None
    if version != FORMAT:
        raise CheckpointError(
            f"{folder} has checkpoint format {_brief(version)}, this program reads {FORMAT}"
        )
    for name, (size, digest) in promised.items():
        if not _PLAIN.fullmatch(name):
            raise CheckpointError(f"{path} names a file outside of its folder: {_brief(repr(name))}")
        if type(size) is not int or type(digest) is not str:
            raise CheckpointError(f"{path} is damaged (no size and sum of {_brief(name)})")
    if type(step) is not int:
        raise CheckpointError(f"{path} is damaged (step {_brief(step)})")
    return Manifest(step, promised)


def _verified(path: Path, size: int, digest: str) -> bytes:
    """A file's content; each piece of it counts in `TRAFFIC`."""
    content, found = BytesIO(), hashlib.sha256()
    try:
        with open_plain(path) as file:
            length = os.fstat(file.fileno()).st_size
            left = size if length == size else 0  # one of another size is not read
            while piece := file.read(min(left, PIECE)):
                left -= content.write(piece)
                found.update(piece)
                TRAFFIC.pieces += 1
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from None
    if length != size:
        raise CheckpointError(f"{path} is damaged: it has {length} bytes instead of {size}")
    if found.hexdigest() != digest:
        raise CheckpointError(f"{path} is damaged: its SHA-256 does not match the manifest")
    return content.getvalue()


def _brief(what: object) -> str:
    text = " ".join(str(what).split())
    return text if len(text) <= 200 else f"{text[:200]}..."
