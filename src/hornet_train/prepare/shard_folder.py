"""The folder that shards go to: what was planned for it, what is finished, and who writes there."""

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
from hornet_train.prepare.shard_files import Written
from hornet_train.track.files import read_json, write_json
from hornet_train.untrusted import open_nofollow


class Store:
    """`out`, for the shards of one split; used in a `with`, which keeps other processes from packing it.

    What is known of them lies in `out/.<split>.pack/`: `plan.json`, a record for each finished shard, and
    shards that are being written. It stays there when all is done, for the same command given again.
    """

    def __init__(self, out: Path, split: str) -> None:
        self.out = out
        self.work = out / f".{split}.pack"
        self.index = out / f"{split}.index.json"
        self.skipped = out / f"{split}.skipped.csv"
        self._split = split
        self._lock: IO[str] | None = None

    def __enter__(self) -> Store:
        """Raises ConfigError where the folder cannot be written, or another process writes there."""
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
            raise ConfigError(f"{self.out}: {self._lock.read().strip()} packs {self._split} there") from None
        except OSError as error:
            raise ConfigError(
                f"{self.out} cannot be locked ({error.strerror}): choose another file system"
            ) from error
        self._lock.truncate(0)
        self._lock.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._lock.flush()
        for part in self.work.glob("*.part"):  # of a start that was killed
            part.unlink()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()

    def plan(self, wanted: Mapping[str, Any]) -> dict[str, Any] | None:
        """The plan of an earlier start; None where nothing stands in the way of a new one.

        Args:
            wanted: `arguments` (flag -> value) and `source` (a fingerprint), as the plan must have them.

        Raises:
            ConfigError: the folder holds shards of other arguments, or of other images.
        """
        place = self.work / "plan.json"
        there = sorted(
            path.name for path in self.out.glob(f"{escape(self._split)}[-.]*") if self._is_ours(path)
        )
        if not place.exists():
            if there:
                untold = f"{self.out} holds {there[0]}, and no {self.work.name}/ tells of it"
                raise ConfigError(f"{untold}: choose an empty folder")
            return None
        try:
            plan: dict[str, Any] = read_json(place)
            before, source = dict(plan["arguments"]), plan["source"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{place} is damaged ({error}); remove {self.out} and start again") from error
        changed = [
            f"{flag} was {_text(before.get(flag))}, is {_text(value)}"
            for flag, value in wanted["arguments"].items()
            if before.get(flag) != value
        ]
        if (changed or source != wanted["source"]) and not there:
            return None  # nothing is finished, so nothing is lost
        if changed:
            raise ConfigError(
                f"{self.out} holds shards of other arguments: {', '.join(changed)}; repeat those, or choose "
                "an empty folder"
            )
        if source != wanted["source"]:
            raise ConfigError(
                f"{self.out} was begun with other images: files of {self._split}/ have come, gone or been "
                "renamed since; choose an empty folder"
            )
        return plan

    def _is_ours(self, path: Path) -> bool:
        """A shard of this split or a list of it; not of a split `train-extra` beside `train`."""
        rest = path.name.removeprefix(self._split)
        return path.is_file() and (rest.startswith(".") or re.match(r"-\d{5}-of-\d{5}\.", rest) is not None)

    def keep_plan(self, plan: Mapping[str, Any]) -> None:
        """Begin with a plan; records of another one are of no use any more."""
        for record in self.work.glob("*.json"):
            record.unlink()
        write_json(self.work / "plan.json", plan)

    def record(self, file: str) -> Written | None:
        """What is known of a finished shard; None of one that is not.

        Raises:
            DataError: the record is not as it was written.
        """
        place = self.work / f"{file}.json"
        if not place.exists():
            return None
        try:
            return Written(**read_json(place))
        except (ValueError, TypeError) as error:
            raise DataError(f"{place} is damaged ({error}); remove it, and its shard is made anew") from error

    def keep_record(self, file: str, written: Written) -> None:
        write_json(self.work / f"{file}.json", asdict(written))

    def forget(self, file: str) -> None:
        """Let a shard be made anew."""
        (self.work / f"{file}.json").unlink(missing_ok=True)


def _text(value: Any) -> str:
    return "not given" if value is None else str(value)
