"""The checkpoints of a run: a folder for each step, of safetensors and JSON, with a manifest of SHA-256 sums.

    checkpoints/step_00001200/  model.safetensors  ema.safetensors  optimizer.safetensors
                                state.json  config.yaml  manifest.json
    checkpoints/last            the name of the newest step folder
    checkpoints/best            the name of the best one

A folder is written under a hidden name, flushed to the disk, and renamed; the pointers `last` and `best` are
updated after that. So at any time every step folder is complete. A step that is written again, after its
evaluation, has the hidden name `.step_00001200.replaced` for a moment; readers find it under that name too.
Nothing is ever unpickled.

Most checkpoints are scheduled: due at a step whatever else happens. One that was written only because the run
was asked to stop serves to resume the run, and for nothing else: a run that diverges never goes back to it,
it does not count among the newest ones that are kept, and it is removed once a newer one is written. So a run
that was stopped can go back to the same checkpoints as one that was not. The exception is a scheduled one
that a full disk refused: the next checkpoint replaces it in memory, and a stop writes the next one earlier.
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

from hornet_train.engine.checkpoint_files import Checkpoint, read_checkpoint
from hornet_train.engine.manifest import FORMAT, has_all_files, parse_step_name, read_pointer, step_name
from hornet_train.engine.state import TensorGroups, is_scheduled
from hornet_train.errors import CheckpointError
from hornet_train.track.durable_files import remove_temporary_files, sync_folder, write_bytes, write_through

__all__ = ["Checkpoint", "CheckpointStore", "read_checkpoint", "read_pointer", "step_name"]

_log = logging.getLogger("hornet_train")


class CheckpointStore:
    """The `checkpoints` folder of a run.

    Args:
        folder: created when the first checkpoint is written.
        keep: number of newest scheduled checkpoints to keep; the best and the last are never removed.
        texts: further files of every checkpoint, such as config.yaml: name -> content.
        metadata: for the header of the safetensors with weights, so that such a file alone can be loaded.
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
        self._damaged: set[str] = set()  # names of those that `newest` skipped
        self._scheduled: dict[str, bool] = {}  # name -> whether it is scheduled, as far as known

    def save(self, tensors: TensorGroups, numbers: Mapping[str, Any]) -> Path:
        """Write the checkpoint of step `numbers["step"]`, update `last` and `best`, and prune.

        Raises:
            CheckpointError: the file system refuses (full, read-only). Older checkpoints are unchanged, and
                nothing of this one is left on the disk.
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
            data = safetensors.torch.save(_dense_cpu_tensors(named), metadata=metadata)
            files[f"{group}.safetensors"] = _write_entry(hidden / f"{group}.safetensors", data)
        for file, text in (*self.texts.items(), ("state.json", json.dumps(dict(numbers), indent=2))):
            files[file] = _write_entry(hidden / file, text.encode())
        manifest = {"format": FORMAT, "step": numbers["step"], "files": files}
        _write_entry(hidden / "manifest.json", json.dumps(manifest, indent=2).encode())
        sync_folder(hidden)
        final = self.folder / name
        if os.path.lexists(final):  # written before its evaluation, or a damaged one of a step made again
            final.rename(self.folder / f".{name}.replaced")
        hidden.rename(final)
        sync_folder(self.folder)
        self._damaged.discard(name)
        self._scheduled[name] = is_scheduled(numbers)
        best = step_name(numbers["best"]["step"]) if numbers["best"] else None
        try:
            self._write_pointers(last=name, best=best)
        except OSError:  # the disk is full: removing old checkpoints may make room
            self.prune(name, best)
            self._write_pointers(last=name, best=best)
        self.prune(name, best)
        return final

    def _write_pointers(self, *, last: str, best: str | None) -> None:
        """Write `last`, and `best` if that checkpoint exists."""
        write_bytes(self.folder / "last", f"{last}\n".encode())
        if best is None:  # an old pointer is to a later step that the run went back from
            (self.folder / "best").unlink(missing_ok=True)
        elif (self.folder / best).is_dir():
            write_bytes(self.folder / "best", f"{best}\n".encode())

    def step_folders(self) -> list[Path]:
        """The step folders, oldest first. A step that was being replaced when the run was killed has its
        hidden old folder here.

        Raises:
            CheckpointError: the folder cannot be listed.
        """
        try:
            folders = [path for path in self.folder.iterdir() if path.is_dir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise CheckpointError(f"{self.folder} cannot be read ({error.strerror})") from error
        found: dict[int, Path] = {}
        for path in sorted(folders):  # hidden names come first, and are replaced by visible ones
            if (step := parse_step_name(path.name)) is not None:
                found[step] = path
        return [found[step] for step in sorted(found)]

    def has(self, step: int) -> bool:
        """Whether there is a checkpoint of a step."""
        return any(found == step for found, _ in self._numbered())

    def newest_complete(self) -> Path | None:
        """The newest step folder that has all its files. Checksums are not computed."""
        return next((path for path in reversed(self.step_folders()) if self._is_usable(path)), None)

    def _is_usable(self, path: Path) -> bool:
        return path.name not in self._damaged and has_all_files(path)

    def prune(self, newest: str, best: str | None) -> None:
        """Remove the checkpoints that are older than the `keep` newest usable ones, and unscheduled ones
        older than `newest`. The best and the last stay.

        Damaged ones do not count as usable. Neither do those of later steps than `newest`, from before the
        run went back: neither kind helps if `newest` is damaged, too.
        """
        protected = {newest, best, read_pointer(self.folder, "last"), read_pointer(self.folder, "best")}
        steps = dict(self._numbered())
        present = parse_step_name(newest)
        assert present is not None
        past = [step for step in steps if step <= present]
        unscheduled = {step for step in past if not self._is_scheduled(steps[step])}
        counted = [step for step in past if step not in unscheduled]
        usable = [step for step in counted if self._is_usable(steps[step])]
        oldest = min(counted[-self.keep :] + usable[-self.keep :], default=present)
        for step, path in steps.items():
            removable = step < oldest or (step in unscheduled and step < present)
            if removable and path.name not in protected and not path.name.startswith("."):
                path.rename(self.folder / f".{path.name}.old")  # no reader sees it half removed
        self.clean()

    def _is_scheduled(self, path: Path) -> bool:
        """Whether a step folder is scheduled (see `is_scheduled`); one that cannot be read counts as such."""
        if path.name not in self._scheduled:
            try:
                self._scheduled[path.name] = is_scheduled(read_checkpoint(path, groups=()).numbers)
            except CheckpointError:
                self._damaged.add(path.name)
                return True
        return self._scheduled[path.name]

    def clean(self) -> None:
        """Restore folders whose replacement was interrupted; remove what is left of interrupted writes and
        removals."""
        for path in sorted(self.folder.glob(".step_*")):
            replaced = path.name.endswith(".replaced") and parse_step_name(path.name)
            try:
                if replaced and not os.path.lexists(self.folder / step_name(replaced)):
                    path.rename(self.folder / step_name(replaced))
                elif path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
            except OSError as error:  # on a network file system somebody may be reading it: try next time
                _log.warning("%s cannot be removed yet (%s)", path, error.strerror)
        for pointer in ("last", "best"):
            remove_temporary_files(self.folder / pointer)

    def rollback_target(self, step: int, avoid: Collection[int] = ()) -> tuple[int, Path] | None:
        """The step and folder to go back to: the newest scheduled checkpoint up to `step` whose checksums
        match, of those in `avoid` only if there is no other. None if there is none at all."""
        candidates = [
            (found, path)
            for found, path in reversed(self._numbered())
            if found <= step and self._is_scheduled(path)
        ]
        for found, path in sorted(candidates, key=lambda one: one[0] in avoid):  # stable: the newest first
            try:
                return found, read_checkpoint(path).folder
            except CheckpointError as error:
                _log.warning("checkpoint skipped: %s", error)
        return None

    def remove_after(self, step: int) -> None:
        """Remove the checkpoints of later steps: the run trains these steps again, in another way.

        Raises:
            CheckpointError: the file system refuses.
        """
        try:
            for found, path in self._numbered():
                if found > step:  # removed before anything is written, which may need their room
                    path.rename(self.folder / f".{step_name(found)}.old")
            if self.folder.is_dir():
                self.clean()
            left = [step_name(found) for found, _ in self._numbered()]
            if read_pointer(self.folder, "best") not in left:
                (self.folder / "best").unlink(missing_ok=True)
            if left:
                write_bytes(self.folder / "last", f"{left[-1]}\n".encode())
            else:
                (self.folder / "last").unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"the run has to go back to step {step}, and {error.filename or self.folder} cannot be "
                f"changed ({error.strerror}): fix that, then the same command resumes the run"
            ) from error

    def _numbered(self) -> list[tuple[int, Path]]:
        """The steps and their folders, oldest first."""
        folders = self.step_folders()
        return [(step, path) for path in folders if (step := parse_step_name(path.name)) is not None]

    def newest(self) -> tuple[Path | None, list[str]]:
        """The newest step folder whose checksums match, and for each newer one why it was skipped.

        Raises:
            CheckpointError: there are checkpoints, and all are damaged.
        """
        skipped: list[str] = []
        for path in reversed(self.step_folders()):
            try:
                return read_checkpoint(path).folder, skipped
            except CheckpointError as error:
                self._damaged.add(path.name)
                skipped.append(str(error))
        if skipped:
            raise CheckpointError(
                "no checkpoint of this run can be used:\n  " + "\n  ".join(skipped) + "\n"
                "start again with resume=restart (the old run folder is kept under another name)"
            )
        return None, []


def _dense_cpu_tensors(named: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors on the CPU, no two of which share memory (tied weights are stored twice)."""
    seen: set[int] = set()
    stored = {}
    for name, tensor in named.items():
        value = tensor.detach().to("cpu").contiguous()
        if value.untyped_storage().data_ptr() in seen:
            value = value.clone()
        seen.add(value.untyped_storage().data_ptr())
        stored[name] = value
    return stored


def _write_entry(path: Path, data: bytes) -> dict[str, Any]:
    """Write a file through to the disk; returns its entry in the manifest."""
    write_through(path, data)
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
