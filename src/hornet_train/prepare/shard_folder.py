"""The output folder of `hornet-data pack`: its plan, the records of finished shards, and a lock."""

from __future__ import annotations

import fcntl
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import asdict
from glob import escape
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from hornet_train.errors import ConfigError, DataError
from hornet_train.prepare.shard_files import WrittenShard
from hornet_train.track.durable_files import read_json, write_json
from hornet_train.untrusted import open_nofollow


class ShardFolder:
    """The folder `out` with the shards of one split.

    A context manager, in which no other process can pack the same split into the folder.

    `out/.<split>.pack/` contains `plan.json`, a record of each finished shard, and shards that are being
    written. It stays when all is done, so that the same command given again finds the work done.
    """

    def __init__(self, out: Path, split: str) -> None:
        self.out = out
        self.work = out / f".{split}.pack"
        self.index = out / f"{split}.index.json"
        self.skipped = out / f"{split}.skipped.csv"
        self._split = split
        self._lock: IO[str] | None = None

    def __enter__(self) -> ShardFolder:
        """Lock the folder, creating it if needed.

        Raises:
            ConfigError: the folder cannot be written, or another process packs the split into it.
        """
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            self._lock = open_nofollow(self.work / "lock", "a+")
        except OSError as error:
            raise ConfigError(
                f"{self.out} cannot be written ({error.strerror}): choose another folder"
            ) from error
        try:
            fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            self._lock.seek(0)
            raise ConfigError(
                f"{self.out}: {self._lock.read().strip()} is packing {self._split} into it"
            ) from None
        except OSError as error:
            raise ConfigError(
                f"{self.out} cannot be locked ({error.strerror}): choose another file system"
            ) from error
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._lock.flush()
        for part in self.work.glob("*.part"):  # left by a killed process
            part.unlink()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()

    def load_plan(self, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
        """The plan of an earlier start; None if a new plan can be made.

        Args:
            wanted: the `arguments` (flag -> value) and the `source` (a fingerprint) that the plan must have.

        Raises:
            ConfigError: the folder contains shards of other arguments, or of other images.
            DataError: the stored plan is damaged.
        """
        record_path = self.work / "plan.json"
        present = sorted(
            path.name for path in self.out.glob(f"{escape(self._split)}[-.]*") if self._belongs_to_split(path)
        )
        if not record_path.exists():
            if present:
                raise ConfigError(
                    f"{self.out} contains {present[0]}, but no {self.work.name}/ that describes it: "
                    "choose an empty folder"
                )
            return None
        try:
            plan: dict[str, Any] = read_json(record_path)
            before, source = dict(plan["arguments"]), plan["source"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{record_path} is damaged ({error}); remove {self.out} and start again"
            ) from error
        changed = [
            f"{flag} was {_text(before.get(flag))}, is {_text(value)}"
            for flag, value in wanted["arguments"].items()
            if before.get(flag) != value
        ]
        if (changed or source != wanted["source"]) and not present:
            return None  # nothing is finished, so nothing is lost
        if changed:
            raise ConfigError(
                f"{self.out} holds shards of other arguments: {', '.join(changed)}; repeat those, or choose "
                "an empty folder"
            )
        if source != wanted["source"]:
            raise ConfigError(
                f"{self.out} was begun with other images: files of {self._split}/ were added, removed or "
                "renamed since; choose an empty folder"
            )
        return plan

    def _belongs_to_split(self, path: Path) -> bool:
        """Whether a file is a shard or a list of this split, and not of `train-extra` beside `train`."""
        rest = path.name.removeprefix(self._split)
        return path.is_file() and (rest.startswith(".") or re.match(r"-\d{5}-of-\d{5}\.", rest) is not None)

    def save_plan(self, plan: Mapping[str, Any]) -> None:
        """Store a new plan, and delete the records that belong to an older one."""
        for record in self.work.glob("*.json"):
            record.unlink()
        write_json(self.work / "plan.json", plan)

    def load_record(self, file: str) -> WrittenShard | None:
        """The record of a finished shard; None if the shard is not finished.

        Raises:
            DataError: the record is damaged.
        """
        record_path = self.work / f"{file}.json"
        if not record_path.exists():
            return None
        try:
            return WrittenShard(**read_json(record_path))
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{record_path} is damaged ({error}); remove it, and its shard is written again"
            ) from error

    def save_record(self, file: str, written: WrittenShard) -> None:
        """Store the record of a finished shard."""
        write_json(self.work / f"{file}.json", asdict(written))

    def delete_record(self, file: str) -> None:
        """Delete the record of a shard, so that the shard is written again."""
        (self.work / f"{file}.json").unlink(missing_ok=True)


def _text(value: Any) -> str:
    return "not given" if value is None else str(value)
