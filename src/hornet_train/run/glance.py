"""What a checkpoint says of its training, read without torch, which takes seconds to import: mistakes in the
command line are answered before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hornet_train.config.stored import config_in_folder, config_in_weights
from hornet_train.engine.manifest import parse_step_name, read_manifest, read_pointer, read_verified
from hornet_train.errors import UserError

_CONFIG = "config.yaml"


def glance(checkpoint: str) -> dict[str, Any] | None:
    """The config in a checkpoint of ours, of a run its best or last one.

    None where it takes more to find out, or to say what is wrong: `known_of` does both.
    """
    path = Path(checkpoint)
    try:
        if path.name in ("best", "last") and path.is_file():
            path = path.parent / (read_pointer(path.parent, path.name) or "")
        if not path.is_dir():
            return config_in_weights(path)
        folder = _step_folder(path)
        if folder is None:
            return None
        size, digest = read_manifest(folder).files[_CONFIG]
        return config_in_folder(read_verified(folder / _CONFIG, size, digest).decode(), folder)
    except (UserError, OSError, LookupError, ValueError):  # damaged: `known_of` finds it again, and says so
        return None


def _step_folder(path: Path) -> Path | None:
    """The folder itself if it is one of a step, else the one that its pointers name first."""
    if (path / "manifest.json").exists() or parse_step_name(path.name) is not None:
        return path
    folder = path if path.name == "checkpoints" else path / "checkpoints"
    named = (read_pointer(folder, pointer) for pointer in ("best", "last"))
    return next((folder / name for name in named if name is not None), None)
