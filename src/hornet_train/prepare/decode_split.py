"""Decode every file of a split in parallel, and write damaged files to a CSV as they are found."""

from __future__ import annotations

import csv
import os
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from hornet_train.errors import ConfigError
from hornet_train.file_names import as_text
from hornet_train.prepare.examine_images import Batch, DecodedImage, ImageStatistics, examine_batch
from hornet_train.prepare.watched_workers import Lost, run_watched
from hornet_train.tasks.stored_files import ImageFiles
from hornet_train.track.progress import Progress

_BATCH_SIZE = 32  # files in one task of a worker


def decode_all(
    files: ImageFiles,
    report_damaged: Callable[[int, str], None],
    statistics: ImageStatistics,
    title: str,
    *,
    workers: int,
    timeout: float,
) -> None:
    """Decode every file of a split in worker processes.

    Args:
        files: those of the split.
        report_damaged: called with (index, reason) for each damaged file.
        statistics: each file that decodes is added to it.
        title: of the progress display.
        workers: number of processes.
        timeout: seconds that one file may take.
    """
    batches = _Batches(files)
    done = 0
    with Progress(title, len(files.paths), "images") as progress:

        def show_progress(begun: int) -> None:
            progress.update(done + begun)

        for outcome in run_watched(
            examine_batch, batches, workers=workers, timeout=timeout, on_progress=show_progress
        ):
            if isinstance(outcome, Lost):
                done += 1
                report_damaged(outcome.task.indices[outcome.item], outcome.reason)
                batches.put_back(outcome.task.without(outcome.item))
                continue
            done += len(outcome.task.paths)
            for index, found in zip(outcome.task.indices, outcome.result, strict=True):
                if isinstance(found, DecodedImage):
                    statistics.add(index, found)
                else:
                    report_damaged(index, found)


class _Batches(Iterator[Batch]):
    """The files of a split in batches; the remaining files of a lost batch can be put back."""

    def __init__(self, files: ImageFiles) -> None:
        self._files = files
        self._next = 0
        self._put_back: deque[Batch] = deque()

    def put_back(self, batch: Batch) -> None:
        if batch.paths:
            self._put_back.append(batch)

    def __next__(self) -> Batch:
        if self._put_back:
            return self._put_back.popleft()
        first, end = self._next, min(self._next + _BATCH_SIZE, len(self._files.paths))
        if first == end:
            raise StopIteration
        self._next = end
        return Batch(
            tuple(range(first, end)), tuple(os.fspath(self._files.locate(i)) for i in range(first, end))
        )


_HEADER = ("path", "reason")


class DamagedList:
    """The CSV of damaged files, with columns path and reason; a context manager.

    A list without rows is deleted at the end.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0
        self._file: IO[str]

    def __enter__(self) -> DamagedList:
        """Begin a new list, replacing that of an earlier check.

        Raises:
            ConfigError: the file cannot be written, or an existing file is not such a list.
        """
        try:
            if self.path.exists() and not self._is_damaged_list():
                raise ConfigError(
                    f"--csv {self.path} exists and is not a list of damaged files: choose another name"
                )
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("w", newline="", encoding="utf-8")
            self._write(_HEADER)
        except OSError as error:
            raise self._cannot_write(error) from error
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        if not self.count:
            self.path.unlink(missing_ok=True)

    def add(self, path: str, reason: str) -> None:
        """Append a row, on disk at once.

        Raises:
            ConfigError: the file cannot be written.
        """
        try:
            self._write((path, reason))
        except OSError as error:
            raise self._cannot_write(error) from error
        self.count += 1

    def _write(self, row: tuple[str, str]) -> None:
        csv.writer(self._file).writerow(map(as_text, row))
        self._file.flush()

    def _is_damaged_list(self) -> bool:
        with self.path.open("rb") as file:
            return file.readline().strip() in (b"", ",".join(_HEADER).encode())

    def _cannot_write(self, error: OSError) -> ConfigError:
        return ConfigError(f"--csv {self.path} cannot be written ({error.strerror}); choose another path")
