"""Every file of a split decoded in parallel; the damaged ones are listed as they are found."""

from __future__ import annotations

import csv
import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from hornet_train.errors import ConfigError
from hornet_train.prepare.watched_workers import Lost, run_crew
from hornet_train.prepare.examine_images import Batch, Good, Tally, examine
from hornet_train.prepare.split_layout import SplitLayout
from hornet_train.prepare.progress import Progress

_BATCH = 32  # files a worker takes at once


def decode_all(
    layout: SplitLayout,
    tell_damaged: Callable[[int, str], None],
    tally: Tally,
    title: str,
    *,
    workers: int,
    timeout: float,
) -> None:
    """Decode every file of a split in processes; the damaged are told as (index, reason)."""
    batches = _Batches(layout)
    done = 0
    with Progress(title, len(layout.paths), "images") as progress:

        def tick(begun: int) -> None:
            progress.reached(done + begun)

        for outcome in run_crew(examine, batches, workers=workers, timeout=timeout, tick=tick):
            if isinstance(outcome, Lost):
                done += 1
                tell_damaged(outcome.task.indices[outcome.item], outcome.reason)
                batches.again(outcome.task.without(outcome.item))
                continue
            done += len(outcome.task.paths)
            for index, found in zip(outcome.task.indices, outcome.result, strict=True):
                if isinstance(found, Good):
                    tally.add(index, found)
                else:
                    tell_damaged(index, found)


class _Batches(Iterator[Batch]):
    """The files of a split, some at a time; those of a batch that was lost come again."""

    def __init__(self, layout: SplitLayout) -> None:
        self._layout = layout
        self._next = 0
        self._again: deque[Batch] = deque()

    def again(self, batch: Batch) -> None:
        if batch.paths:
            self._again.append(batch)

    def __next__(self) -> Batch:
        if self._again:
            return self._again.popleft()
        first, end = self._next, min(self._next + _BATCH, len(self._layout.paths))
        if first == end:
            raise StopIteration
        self._next = end
        return Batch(
            tuple(range(first, end)), tuple(os.fspath(self._layout.locate(i)) for i in range(first, end))
        )


_HEADER = ("path", "reason")


class DamagedList:
    """The CSV of damaged files (path, reason); without a row there is none in the end. Used in a `with`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._file: IO[str]

    def __enter__(self) -> DamagedList:
        """Begin a new list in place of an earlier one.

        Raises:
            ConfigError: it cannot be written, or something else is there.
        """
        try:
            if self.path.exists() and not self._is_list():
                raise ConfigError(
                    f"--csv {self.path} is there and no list of damaged files: choose another name"
                )
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("w", newline="", encoding="utf-8", errors="surrogateescape")
            self._write(_HEADER)
        except OSError as error:
            raise self._unwritable(error) from error
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        if not self.count:
            self.path.unlink(missing_ok=True)

    def add(self, path: str, reason: str) -> None:
        """Raises ConfigError where it cannot be written."""
        try:
            self._write((path, reason))
        except OSError as error:
            raise self._unwritable(error) from error
        self.count += 1

    def _write(self, row: tuple[str, str]) -> None:
        csv.writer(self._file).writerow(row)
        self._file.flush()

    def _is_list(self) -> bool:
        with self.path.open("rb") as file:
            return file.readline().strip() in (b"", ",".join(_HEADER).encode())

    def _unwritable(self, error: OSError) -> ConfigError:
        return ConfigError(f"--csv {self.path} cannot be written ({error.strerror}); choose another place")
