"""Checks of a file that a command is asked to write, before it does anything that takes long."""

from __future__ import annotations

import os
from pathlib import Path

from hornet_train.errors import ConfigError


def check_output(given: str, path: Path, suffix: str) -> None:
    """Make sure that a file can be written; changes nothing. A name without a suffix is taken as it is.

    Args:
        given: how the command line names it, `out=step.json`; for messages.
        path: of the file.
        suffix: of the only kind of file that is written there, such as `.json`.

    Raises:
        ConfigError: it cannot be written, or its name says that it is of another kind.
    """
    check_suffix(given, path, suffix)
    folder = path.absolute().parent
    if path.is_dir():
        fault = f"it is a folder: give the path of a file, {path / f'name{suffix}'}"
    elif not folder.is_dir():
        fault = f"there is no folder {folder}: create it first, or choose another place"
    elif not os.access(folder, os.W_OK | os.X_OK):
        fault = f"the folder {folder} is not to be written: choose another place"
    else:
        return
    raise ConfigError([f"{given} cannot be written: {fault}"])


def check_suffix(given: str, path: Path, suffix: str) -> None:
    """Make sure that the name of a file to be written says what is in it, or nothing; as `check_output`.

    Raises:
        ConfigError: it has another suffix.
    """
    if not path.suffix or path.suffix.lower() == suffix or path.is_dir():
        return
    there = "; what is there would be overwritten" if path.exists() else ""
    name = path.with_suffix(suffix)
    raise ConfigError([f"{given} cannot be written: it is a {suffix} file, so name it {name}, say{there}"])
