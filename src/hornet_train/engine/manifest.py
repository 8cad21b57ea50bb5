"""The names, pointers and manifests of checkpoints. Read without torch, which takes seconds to import."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from hornet_train.errors import CheckpointError
from hornet_train.track.durable_files import CHUNK_BYTES, DISK_PROGRESS
from hornet_train.untrusted import MB, open_regular, parse_json, read_text, read_within

FORMAT = 1
_MAX_POINTER = 100  # bytes of the file `last` or `best`
_STEP = re.compile(r"step_([0-9]{8,18})")
_REPLACED = re.compile(r"\.(step_[0-9]{8,18})\.replaced")
_FILE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")  # of a file in the folder itself


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint should hold.

    Attributes:
        files: name -> size in bytes and SHA-256.
    """

    step: int
    files: dict[str, tuple[int, str]]


def step_name(step: int) -> str:
    """The name of a step's folder."""
    return f"step_{step:08d}"


def parse_step_name(name: str) -> int | None:
    """The step of a folder of that name, also while it is being replaced; None for any other name."""
    replaced = _REPLACED.fullmatch(name)
    match = _STEP.fullmatch(replaced[1] if replaced else name)
    step = int(match[1]) if match else -1
    return step if match and match[0] == step_name(step) else None


def read_pointer(folder: Path, pointer: str) -> str | None:
    """The name of the step folder that `last` or `best` points to; None without a valid pointer."""
    try:
        name = read_text(folder / pointer, _MAX_POINTER).strip()
    except (OSError, ValueError):  # missing or damaged: the step folders themselves are enough
        return None
    return name if _STEP.fullmatch(name) and parse_step_name(name) is not None else None


def has_all_files(folder: Path) -> bool:
    """Whether a step folder has all its files at full length. Checksums are not computed."""
    try:
        return all(
            (folder / name).stat().st_size == size for name, (size, _) in read_manifest(folder).files.items()
        )
    except (OSError, CheckpointError):
        return False


def read_manifest(folder: Path) -> Manifest:
    """Read what a step folder should hold.

    Raises:
        CheckpointError: there is no manifest, or it is damaged or of another format.
    """
    path = folder / "manifest.json"
    try:
        content = parse_json(read_within(path, MB))
        files, version, step = content["files"], content["format"], content["step"]
        listed = {name: (entry["bytes"], entry["sha256"]) for name, entry in files.items()}
    except FileNotFoundError:
        if not os.path.lexists(folder):
            raise CheckpointError(f"{folder} does not exist") from None
        raise CheckpointError(f"{folder} has no manifest.json: it is not a complete checkpoint") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged ({shortened(error)})") from None
    if version != FORMAT:
        raise CheckpointError(
            f"{folder} has checkpoint format {shortened(version)}, this program reads {FORMAT}"
        )
    for name, (size, digest) in listed.items():
        if not _FILE_NAME.fullmatch(name):
            raise CheckpointError(f"{path} names a file outside of its folder: {shortened(repr(name))}")
        if type(size) is not int or type(digest) is not str:
            raise CheckpointError(f"{path} is damaged (no size and checksum of {shortened(name)})")
    if type(step) is not int:
        raise CheckpointError(f"{path} is damaged (step {shortened(step)})")
    return Manifest(step, listed)


def read_verified(path: Path, size: int, digest: str) -> bytes:
    """A file's content, after a check of size and SHA-256; each chunk of it counts in `DISK_PROGRESS`.

    Raises:
        CheckpointError: it cannot be read, or is another.
    """
    content, found = BytesIO(), hashlib.sha256()
    try:
        with open_regular(path) as file:
            length = os.fstat(file.fileno()).st_size
            left = size if length == size else 0  # a file of another size is not read
            while chunk := file.read(min(left, CHUNK_BYTES)):
                left -= content.write(chunk)
                found.update(chunk)
                DISK_PROGRESS.chunks += 1
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror})") from None
    if length != size:
        raise CheckpointError(f"{path} is damaged: it has {length} bytes instead of {size}")
    if found.hexdigest() != digest:
        raise CheckpointError(f"{path} is damaged: its SHA-256 does not match the manifest")
    return content.getvalue()


def shortened(value: object) -> str:
    """A value from an untrusted file, on one line of limited length."""
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else f"{text[:200]}..."
