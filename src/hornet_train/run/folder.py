"""The run folder: checks, its lock, and the files that are written when a run starts."""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import IO, Any, Literal

from hornet_train.config.compose import Composed, to_yaml
from hornet_train.config.schema import Config
from hornet_train.config.stored import differences, read_config
from hornet_train.engine.checkpoint import CheckpointStore
from hornet_train.engine.distributed import World
from hornet_train.errors import ConfigError
from hornet_train.track.durable_files import read_json, remove_temporary_files, write_json, write_text
from hornet_train.track.environment import environment
from hornet_train.track.sinks import rewind
from hornet_train.untrusted import open_nofollow

_log = logging.getLogger("hornet_train")
_FILES = (
    "environment.json",
    "metrics.jsonl",
    "curves.png",
    "wandb_run.json",
)  # of a run, besides config.yaml
_OWN = (
    *(*_FILES, "config.yaml", "checkpoints", "dumps", "files", "uncommitted.diff", "eval.json"),
    *("wandb", "tensorboard"),
)  # all that a run, and an evaluation of it, write there


def default_run_dir(composed: Composed[Config]) -> Path:
    """runs/<date>_<model>_<data>; for timm's models with the name of the model."""
    stamp = time.strftime("%Y-%m-%d_%H-%M-%S")
    model, data = composed.choices["model"], composed.choices["data"]
    name = composed.config.model.name.replace("/", "_") if model == "timm" else model
    return Path("runs") / f"{stamp}_{name}_{data}"


def new_folder(place: Path) -> Path:
    """Make an empty folder that no other process has: `place`, or with `_2`, `_3`, ... behind its name.

    Raises:
        ConfigError: it cannot be made.
    """
    for number in count(1):
        folder = place if number == 1 else place.with_name(f"{place.name}_{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise ConfigError([f"{folder} cannot be made ({error.strerror}): choose another"]) from error
        return folder
    raise AssertionError("numbers end")


@contextmanager
def held_folder(place: Path) -> Iterator[Path]:
    """A `new_folder` that is removed at the end if it is empty, with its parent if that is empty too."""
    folder = new_folder(place)
    try:
        yield folder
    finally:
        with suppress(OSError):  # not empty: something has begun in it
            folder.rmdir()
            folder.parent.rmdir()


Resume = Literal["auto", "force", "restart"]


def check_run_folder(folder: Path, tree: Mapping[str, Any], resume: Resume, schema: type[Config]) -> None:
    """Make sure that a run can be written to a folder; changes nothing.

    `schema`: of the config in `tree`.

    Raises:
        ConfigError: it is no folder, cannot be written, or holds a run with another config.
    """
    if (run := _run_around(folder)) is not None:
        raise ConfigError([f"run_dir={folder} is within a run's checkpoints: run_dir={run} goes on with it"])
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ConfigError([f"run_dir={folder} is a file: choose another"])
    if (folder / "manifest.json").exists():
        raise ConfigError([f"run_dir={folder} is a checkpoint: init_from={folder} begins with its weights"])
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigError(
            [f"run_dir={folder} cannot be read and written: choose another, or change its rights"]
        )
    if (folder / "checkpoints").exists() and not (folder / "checkpoints").is_dir():
        raise ConfigError([f"{folder}/checkpoints is a file, where a folder is needed: remove it"])
    if (folder / ".lock").exists():
        hold_run_folder(folder).close()
    elif not (folder / "config.yaml").exists():  # nor is it of a run that was killed as it began
        overwritten = [name for name in _FILES if (folder / name).exists()]
        if overwritten:
            there = ", ".join(overwritten)
            raise ConfigError(
                [f"run_dir={folder} has no run in it, but {there}: one would overwrite that; choose another"]
            )
    kept = folder / "config.yaml"
    if resume == "restart":
        if kept.exists() and (others := _others(folder)):
            raise ConfigError(
                [
                    f"run_dir={folder} holds more than its run ({_shown(others)}), and resume=restart would "
                    "move all of it aside: choose another run_dir, or move that away"
                ]
            )
        return
    if not kept.exists():
        if (folder / "checkpoints").exists():
            raise ConfigError(
                [f"run_dir={folder} has checkpoints but no config.yaml: choose another run_dir"]
            )
        return
    changed = differences(read_config(kept), tree, schema)
    if changed and resume == "auto":
        lines = "".join(f"\n    {line}" for line in changed)
        raise ConfigError(
            [
                f"run_dir={folder} holds a run with another config:{lines}\n"
                "  start again elsewhere with another run_dir=, here with resume=restart (the old run is "
                "kept under another name), or go on all the same with resume=force"
            ]
        )


def _run_around(folder: Path) -> Path | None:
    """The run in whose checkpoints a folder is; None if it is in none."""
    for place in (folder.absolute(), *folder.absolute().parents):
        if place.name == "checkpoints" and (place.parent / "config.yaml").is_file():
            return place.parent
    return None


def claim_run_folder(
    folder: Path, tree: Mapping[str, Any], resume: Resume, schema: type[Config]
) -> str | None:
    """Make the run folder, after `check_run_folder`; with `restart`, move an earlier run out of the way.

    `schema`: of the config in `tree`.

    Returns:
        What was done, or is different, as a sentence; None for nothing.

    Raises:
        ConfigError: the folder cannot be made.
    """
    note, kept = None, folder / "config.yaml"
    try:
        if resume == "restart" and (kept.exists() or (folder / "checkpoints").exists()):
            whole = folder.absolute()
            numbered = (whole.with_name(f"{whole.name}.old{i}") for i in count(1))
            aside = next(place for place in numbered if not place.exists())
            whole.rename(aside)
            note = f"the run that was in {folder} is now in {aside}"
        elif not kept.exists():
            note = _beside(folder)
        elif changed := differences(read_config(kept), tree, schema):
            note = f"going on with another config: {'; '.join(changed)}"
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError([f"run_dir={folder} cannot be made ({error.strerror}): choose another"]) from error
    return note


def _beside(folder: Path) -> str | None:
    """A sentence where a new run is written beside files that are of no run; hidden ones do not count."""
    others = _others(folder)
    if not others:
        return None
    return f"run_dir={folder} is not empty ({_shown(others)}): the run is written beside what is there"


def _others(folder: Path) -> list[str]:
    """The names in a folder that are not those of a run's files, without hidden ones."""
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [name for name in there if name[0] != "." and name not in _OWN]


def _shown(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def hold_run_folder(folder: Path) -> IO[str]:
    """Keep every other process from training in a folder, for as long as the file that is returned is open.

    The system lets go when this process ends, however it ends.

    Raises:
        ConfigError: another process trains there; it is named. Or the folder cannot be written.
    """
    try:
        file = open_nofollow(folder / ".lock", "a+")
    except OSError as error:
        raise ConfigError([f"{folder}/.lock cannot be written ({error.strerror})"]) from error
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock, not shared with data workers
    except (BlockingIOError, PermissionError):
        with file:
            file.seek(0)
            other = file.read().strip()
        raise ConfigError([f"run_dir={folder}: another process trains in it ({other})"]) from None
    except OSError as error:  # a file system without locks
        _log.warning("%s cannot be locked (%s): start no second run in it", folder, error.strerror)
        return file
    try:
        file.truncate(0)
        os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    except OSError as error:
        file.close()
        raise ConfigError([f"{folder}/.lock cannot be written ({error.strerror})"]) from error
    return file


@contextmanager
def occupied(
    folder: Path, tree: Mapping[str, Any], resume: Resume, schema: type[Config], *, world: World
) -> Iterator[str | None]:
    """Have a run folder for this run alone: made, locked, and cleaned of what a kill left half written.

    Every rank enters, after `check_run_folder`. Gives the note of `claim_run_folder`.

    Raises:
        ConfigError: another process trains there, or the folder cannot be made or written.
    """
    note = world.on_main(lambda: claim_run_folder(folder, tree, resume, schema))
    held: list[IO[str]] = []
    world.on_main(lambda: held.append(hold_run_folder(folder)))
    try:
        if world.is_main:
            clean_run_folder(folder)
        yield note
    finally:
        for lock in held:
            lock.close()


def open_run_folder(
    folder: Path,
    tree: Mapping[str, Any],
    *,
    world: World,
    step: int,
    again: frozenset[str],
    rollbacks: int,
) -> None:
    """Write what a run folder says of this start; take the metrics back to where it starts (`rewind`).

    Raises:
        ConfigError: the disk refuses, or something else stands where a file belongs.
    """
    record = folder / "environment.json"
    try:
        started = environment(world.size, world.device.type, folder)
        write_json(record, {**started, "earlier": _earlier(record)})
        write_text(folder / "config.yaml", to_yaml(tree))
        rewind(folder / "metrics.jsonl", step, again=again, rollbacks=rollbacks)
    except OSError as error:
        raise ConfigError(
            [f"{error.filename or folder} cannot be written ({error.strerror}): make room, or clear it away"]
        ) from error


def _earlier(record: Path) -> list[Any]:
    """What `environment.json` says about the starts before this one; nothing where it is damaged."""
    try:
        before = read_json(record)
        return [*list(before.pop("earlier", [])), before]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, AttributeError, TypeError) as error:
        _log.warning("%s is written again, without the earlier starts (%s)", record, error)
        return []


def clean_run_folder(folder: Path) -> None:
    """Remove what killed processes of this run left half written; call it when the folder is held."""
    CheckpointStore(folder / "checkpoints", keep=1).clean()
    for name in ("config.yaml", *_FILES):
        remove_temporary_files(folder / name)
