"""Checkpoints: a folder a step, of safetensors and JSON, with a manifest of SHA-256 sums.

    checkpoints/step_00001200/  model.safetensors  ema.safetensors  optimizer.safetensors
                                state.json  config.yaml  manifest.json
    checkpoints/last            the name of the newest step folder
    checkpoints/best            the name of the best one

A folder is written beside its place under a hidden name, flushed to the disk, and renamed; `last` and `best`
are repointed after that. So at any instant every step folder is complete. A step that is written once more,
after its evaluation, stands for an instant under the hidden name `.step_00001200.replaced`, where a reader
finds it too. Nothing is ever unpickled.

Most checkpoints are scheduled: due at a step whatever else happens. One that was written only because the run
was asked to stop is there to go on from, and for nothing else. A run that diverges never goes back to it, it
takes no scheduled one's place among those that are kept, and it goes once a newer one is written. So a run
that was stopped has the same checkpoints to go back to as one that was not, unless a disk was full when one
of them was due: such a one is lost as soon as a newer one is to be written, which a stop asks for earlier.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from hornet_train.engine.reading import (
    FORMAT,
    Saved,
    looks_whole,
    pointed,
    read_checkpoint,
    step_name,
    step_of,
)
from hornet_train.engine.state import TensorGroups, is_scheduled
from hornet_train.errors import CheckpointError
from hornet_train.track.files import remove_parts, sync_folder, write_bytes, write_through

__all__ = ["CheckpointStore", "Saved", "locate", "pointed", "read_checkpoint", "step_name"]

_log = logging.getLogger("hornet_train")


class CheckpointStore:
    """The `checkpoints` folder of a run.

    Args:
        folder: made when the first checkpoint is written.
        keep: how many of the newest scheduled ones to keep; the best and the last are never removed.
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
        self._damaged: set[str] = set()  # names of those that `newest` passed over
        self._scheduled: dict[str, bool] = {}  # by name, of those that were looked into

    def save(self, tensors: TensorGroups, numbers: Mapping[str, Any]) -> Path:
        """Write the checkpoint of step `numbers["step"]`, repoint `last` and `best`, prune.

        Raises:
            CheckpointError: the file system refuses (full, read-only); older checkpoints stand as they were,
                and of this one nothing is left that takes up room.
        """
        try:
            return self._save(tensors, numbers)
        except OSError as error:
            self.clean()
            raise CheckpointError(
                f"{error.filename or self.folder} cannot be written ({error.strerror or error})"
            ) from error

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
        if os.path.lexists(place):  # from before its evaluation, or a damaged one that the run comes past
            place.rename(self.folder / f".{name}.replaced")
        hidden.rename(place)
        sync_folder(self.folder)
        self._damaged.discard(name)
        self._scheduled[name] = is_scheduled(numbers)
        best = step_name(numbers["best"]["step"]) if numbers["best"] else None
        try:
            self.point(last=name, best=best)
        except OSError:  # full to the last byte: what may go makes room
            self.prune(name, best)
            self.point(last=name, best=best)
        self.prune(name, best)
        return place

    def point(self, *, last: str, best: str | None) -> None:
        """Write the two pointers; `best` only where that checkpoint is there."""
        write_bytes(self.folder / "last", f"{last}\n".encode())
        if best is None:  # one from beyond a damaged checkpoint that the run went back to
            (self.folder / "best").unlink(missing_ok=True)
        elif (self.folder / best).is_dir():
            write_bytes(self.folder / "best", f"{best}\n".encode())

    def steps(self) -> list[Path]:
        """The step folders, oldest first, where a kill left one half replaced that which it had.

        Raises:
            CheckpointError: the folder cannot be listed.
        """
        try:
            there = [path for path in self.folder.iterdir() if path.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise CheckpointError(f"{self.folder} cannot be read ({error.strerror})") from error
        found: dict[int, Path] = {}
        for path in sorted(there):  # a hidden one comes first
            if (step := step_of(path.name)) is not None:
                found[step] = path
        return [found[step] for step in sorted(found)]

    def has(self, step: int) -> bool:
        """Whether there is a checkpoint of a step."""
        return any(found == step for found, _ in self._numbered())

    def stands_at(self) -> Path | None:
        """The newest step folder that looks usable; sums are not computed."""
        return next((path for path in reversed(self.steps()) if self._is_usable(path)), None)

    def _is_usable(self, path: Path) -> bool:
        return path.name not in self._damaged and looks_whole(path)

    def prune(self, newest: str, best: str | None) -> None:
        """Remove what is older than the `keep` newest that can be used, but for what is pointed to; and those
        that are not scheduled, once there is a newer one.

        Those do not count that are known to be damaged, or that lie ahead, where a run went back to an older
        one: they are no help when `newest` is damaged, too.
        """
        precious = {newest, best, pointed(self.folder, "last"), pointed(self.folder, "best")}
        steps = {step: path for path in self.steps() if (step := step_of(path.name)) is not None}
        present = step_of(newest)
        assert present is not None
        past = [step for step in steps if step <= present]
        stops = {step for step in past if not self._is_scheduled(steps[step])}
        counted = [step for step in past if step not in stops]
        usable = [step for step in counted if self._is_usable(steps[step])]
        oldest = min(counted[-self.keep :] + usable[-self.keep :], default=present)
        for step, path in steps.items():
            may_go = step < oldest or (step in stops and step < present)
            if may_go and path.name not in precious and not path.name.startswith("."):
                path.rename(self.folder / f".{path.name}.old")  # gone under its name before it is in pieces
        self.clean()

    def _is_scheduled(self, path: Path) -> bool:
        """Whether a step folder is more than what a stop left; of one that is damaged nobody knows."""
        if path.name not in self._scheduled:
            try:
                self._scheduled[path.name] = is_scheduled(read_checkpoint(path, groups=()).numbers)
            except CheckpointError:
                self._damaged.add(path.name)
                return True
        return self._scheduled[path.name]

    def clean(self) -> None:
        """Put back what a kill left half replaced; remove what interrupted writes and pruning left behind."""
        for path in sorted(self.folder.glob(".step_*")):
            replaced = path.name.endswith(".replaced") and step_of(path.name)
            try:
                if replaced and not os.path.lexists(self.folder / step_name(replaced)):
                    path.rename(self.folder / step_name(replaced))
                elif path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            except OSError as error:  # somebody on a network file system reads it: the next time will do
                _log.warning("%s cannot be removed yet (%s)", path, error.strerror)
        for pointer in ("last", "best"):
            remove_parts(self.folder / pointer)

    def before(self, step: int, avoid: Collection[int] = ()) -> tuple[int, Path] | None:
        """The newest scheduled step up to `step` whose sums match, if possible none of `avoid`, and its
        folder."""
        able = [
            (found, path)
            for found, path in reversed(self._numbered())
            if found <= step and self._is_scheduled(path)
        ]
        for found, path in sorted(able, key=lambda one: one[0] in avoid):  # stable: the newest first
            try:
                return found, read_checkpoint(path).folder
            except CheckpointError as error:
                _log.warning("passed over: %s", error)
        return None

    def drop_after(self, step: int) -> None:
        """Remove the checkpoints of later steps: the run goes on from `step` in another way.

        Raises:
            CheckpointError: the file system refuses.
        """
        try:
            for found, path in self._numbered():
                if found > step:  # renamed and removed before anything is written, which may need their room
                    path.rename(self.folder / f".{step_name(found)}.old")
            if self.folder.is_dir():
                self.clean()
            left = [step_name(found) for found, _ in self._numbered()]
            if pointed(self.folder, "best") not in left:
                (self.folder / "best").unlink(missing_ok=True)
            if left:
                write_bytes(self.folder / "last", f"{left[-1]}\n".encode())
            else:
                (self.folder / "last").unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"the run has to go back to step {step}, and {error.filename or self.folder} cannot be "
                f"changed ({error.strerror}): mend that, then the same command goes on"
            ) from error

    def _numbered(self) -> list[tuple[int, Path]]:
        return [(step, path) for path in self.steps() if (step := step_of(path.name)) is not None]

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
                self._damaged.add(path.name)
                passed_over.append(str(error))
        if passed_over:
            raise CheckpointError(
                "no checkpoint of this run can be used:\n  " + "\n  ".join(passed_over) + "\n"
                "start anew with resume=restart (the old run folder is kept under another name)"
            )
        return None, []


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
    if os.path.exists(path / "manifest.json") or step_of(path.name) is not None:
        return read_checkpoint(path, groups), []
    folder = path if path.name == "checkpoints" else path / "checkpoints"
    tried: dict[Path, str] = {}
    # looked for anew each time: a training that goes on removes some and writes others
    while choices := [choice for choice in _choices(folder) if choice not in tried]:
        try:
            return read_checkpoint(choices[0], groups), list(tried.values())
        except CheckpointError as error:
            tried[choices[0]] = f"passed over: {error}"
    raise CheckpointError("\n  ".join([f"{path} holds no usable checkpoint", *tried.values()]))


def _choices(folder: Path) -> list[Path]:
    """What a `checkpoints` folder has, the best first, then the last, then the newest."""
    steps = {step_of(path.name): path for path in CheckpointStore(folder, keep=1).steps()}
    named = [name for pointer in ("best", "last") if (name := pointed(folder, pointer)) is not None]
    first = [steps.get(step_of(name), folder / name) for name in named]
    return list(dict.fromkeys([*first, *(path for _, path in sorted(steps.items(), reverse=True))]))


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
