"""Pack image files into shards: plan once, write in parallel, read back. A later start continues."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hornet_train.data.sources.listing import with_count
from hornet_train.errors import ConfigError, DataError, SampleError
from hornet_train.file_names import as_text
from hornet_train.images.resize import load_loops
from hornet_train.prepare.shard_files import verify_shard, write_shard
from hornet_train.prepare.shard_folder import ShardFolder
from hornet_train.prepare.shard_plan import Arguments, PlannedShards, make_plan
from hornet_train.prepare.watched_workers import Lost, run_watched
from hornet_train.tasks.stored_files import DataFiles, FilesToPack
from hornet_train.track.durable_files import write_json, write_text
from hornet_train.track.progress import Progress

INDEX_VERSION = 1
_SHARD_TIMEOUT_FACTOR = 60  # reading back a shard may take this many times the time of an image


def pack(
    data: DataFiles,
    root: Path,
    out: Path,
    arguments: Arguments,
    *,
    labels: Path | None = None,
    workers: int,
    timeout: float,
    say: Callable[[str], None],
) -> None:
    """Pack a split into shards; shards that an earlier start finished are kept.

    Args:
        data: what the task that the data are for knows of its files.
        root: the folder that contains the split.
        out: the folder for the shards; created if needed.
        arguments: what determines the content of the shards.
        labels: the file with the labels, where they do not follow from the names of the images.
        workers: number of shards that are written at a time.
        timeout: seconds that one image may take.
        say: called with each line about what was done.

    Raises:
        DataError: the images cannot be used, or a shard cannot be written or read back.
        ConfigError: `out` is in use or cannot be written, or the task does not pack data sets.
    """
    files = data.list_files(root / arguments.split, arguments.split, labels)
    if out.resolve().is_relative_to(files.folder.resolve()):
        raise ConfigError(
            f"{out} lies in {files.folder}, the folder of the images to pack: choose another folder"
        )
    if arguments.shorter_side is not None:
        load_loops()  # compiled here, not in the time that the first image may take a worker
    for what in files.not_packed:
        say(f"{arguments.split}: not packed: {what}")
    with ShardFolder(out, arguments.split) as shard_folder:
        try:
            plan = make_plan(files, shard_folder, arguments, workers=workers, timeout=timeout)
            shards = PlannedShards(files, shard_folder, arguments, plan)
            finished = _verified_shards(shard_folder, shards, workers, timeout, say)
            remaining = [number for number in range(len(shards)) if number not in finished]
            _write_shards(shard_folder, shards, remaining, workers, timeout)
            _verify_written(shard_folder, shards, remaining, workers, timeout)
            _write_index(files, shard_folder, shards, plan)
        except SampleError as error:
            if arguments.on_bad == "skip":  # it decoded when the plan was made
                raise
            raise DataError(
                f"{error.where}: {error.reason}; fetch it again and start the same command, which "
                "keeps finished shards; or leave out damaged images: --on-bad skip and an empty OUT"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"{error.filename or out} cannot be written or read ({error.strerror}); finished shards are "
                "kept: fix the cause and start the same command again"
            ) from error
    say(
        f"{with_count(shards.samples, 'sample')} in {with_count(len(shards), 'shard')}, "
        f"read back: {shard_folder.index}"
    )
    if plan["skipped"]:
        say(f"{with_count(len(plan['skipped']), 'damaged image')} left out: {shard_folder.skipped}")


def _verified_shards(
    shard_folder: ShardFolder, shards: PlannedShards, workers: int, timeout: float, say: Callable[[str], None]
) -> frozenset[int]:
    """The numbers of the shards that earlier starts finished and that still read back as written."""
    recorded = [
        number
        for number in range(len(shards))
        if shard_folder.load_record(shards.file_name(number)) is not None
    ]
    wrong = _read_back(shard_folder, shards, recorded, "verifying finished shards", workers, timeout)
    for number, what in sorted(wrong.items()):
        say(f"{shards.file_name(number)} is written again: {what}")
        shard_folder.delete_record(shards.file_name(number))
    if recorded:
        say(f"{with_count(len(recorded) - len(wrong), 'shard')} of {len(shards):,} kept")
    return frozenset(recorded) - frozenset(wrong)


def _write_shards(
    shard_folder: ShardFolder, shards: PlannedShards, numbers: list[int], workers: int, timeout: float
) -> None:
    total = sum(shards.sample_count(number) for number in numbers)
    tasks = (shards.shard(number) for number in numbers)
    done = 0
    with Progress("packing", total, "images") as progress:

        def show_progress(begun: int) -> None:
            progress.update(done + begun)

        for outcome in run_watched(
            write_shard, tasks, workers=workers, timeout=timeout, on_progress=show_progress
        ):
            if isinstance(outcome, Lost):
                raise SampleError(
                    outcome.task.paths[outcome.item], outcome.reason, "look at the file, or remove it"
                )
            done += outcome.result.samples
            shard_folder.save_record(Path(outcome.task.file).name, outcome.result)


def _verify_written(
    shard_folder: ShardFolder, shards: PlannedShards, numbers: list[int], workers: int, timeout: float
) -> None:
    for number, what in _read_back(shard_folder, shards, numbers, "reading back", workers, timeout).items():
        shard_folder.delete_record(shards.file_name(number))
        raise DataError(
            f"{shard_folder.out / shards.file_name(number)} does not read back as it was written ({what}): "
            "is the disk sound? The same command writes it again"
        )


def _read_back(
    shard_folder: ShardFolder,
    shards: PlannedShards,
    numbers: list[int],
    title: str,
    workers: int,
    timeout: float,
) -> dict[int, str]:
    """Read recorded shards back: number -> what differs, for those that are not as they were written."""
    tasks = (
        (shards.shard(number), written)
        for number in numbers
        if (written := shard_folder.load_record(shards.file_name(number))) is not None
    )
    by_file = {shards.file_name(number): number for number in numbers}
    wrong: dict[int, str] = {}
    done = 0
    with Progress(title, len(numbers), "shards") as progress:

        def show_progress(_: int) -> None:
            progress.update(done)

        for outcome in run_watched(
            verify_shard,
            tasks,
            workers=workers,
            timeout=_SHARD_TIMEOUT_FACTOR * timeout,
            on_progress=show_progress,
        ):
            done += 1
            shard, _ = outcome.task
            what = outcome.reason if isinstance(outcome, Lost) else outcome.result
            if what:
                wrong[by_file[Path(shard.file).name]] = what
    return wrong


def _write_index(
    files: FilesToPack, shard_folder: ShardFolder, shards: PlannedShards, plan: dict[str, Any]
) -> None:
    """Write the index, and the list of damaged images that were left out."""
    if plan["skipped"]:
        rows = io.StringIO()
        table = csv.writer(rows, lineterminator="\n")
        table.writerow(("path", "reason"))
        table.writerows(
            (as_text(os.fspath(files.locate(index))), reason) for index, reason in plan["skipped"]
        )
        write_text(shard_folder.skipped, rows.getvalue())
    names = [shards.file_name(number) for number in range(len(shards))]
    records = [shard_folder.load_record(name) for name in names]
    write_json(
        shard_folder.index,
        {
            "version": INDEX_VERSION,
            "arguments": plan["arguments"],
            "source": plan["source"],
            **files.facts,
            "samples": shards.samples,
            "shards": [
                {"file": name, **asdict(record)}
                for name, record in zip(names, records, strict=True)
                if record is not None
            ],
        },
    )
