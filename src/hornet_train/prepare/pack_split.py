"""Class folders packed into shards: planned once, written in parallel, read back, and gone on with."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hornet_train.errors import ConfigError, DataError, SampleError
from hornet_train.prepare.watched_workers import Lost, run_crew
from hornet_train.prepare.split_layout import SplitLayout, some
from hornet_train.prepare.shard_plan import Arguments, Shards, make_plan, usable_split
from hornet_train.prepare.progress import Progress
from hornet_train.prepare.shard_files import verify_shard, write_shard
from hornet_train.prepare.shard_folder import Store
from hornet_train.track.files import write_json, write_text

INDEX_VERSION = 1
_A_SHARD = 60  # times an image's time for reading a shard back


def pack(
    root: Path,
    out: Path,
    arguments: Arguments,
    *,
    labels: Path | None = None,
    workers: int,
    timeout: float,
    say: Callable[[str], None],
) -> None:
    """Pack a split into shards; those that are finished already are kept.

    Args:
        root: the folder that holds the split.
        out: where shards go; made where it is not there.
        arguments: what shards to make.
        labels: of a split without class folders.
        workers: shards that are written at a time.
        timeout: seconds that one image may take.
        say: told what was done, in lines.

    Raises:
        DataError: the images cannot be used, or a shard cannot be written or read back.
        ConfigError: `out` is taken or cannot be written.
    """
    layout = usable_split(root / arguments.split, arguments.split, labels)
    if out.resolve().is_relative_to(layout.folder.resolve()):
        raise ConfigError(f"{out} lies in {layout.folder}, whose images it is to hold: choose another folder")
    if layout.loose:
        say(f"{arguments.split}: not packed: {some(len(layout.loose), 'image')} beside the class folders")
    for why, count in layout.ignored.most_common(5):
        say(f"{arguments.split}: not packed: {some(count, 'file')}: {why}")
    with Store(out, arguments.split) as store:
        try:
            plan = make_plan(layout, store, arguments, workers=workers, timeout=timeout)
            shards = Shards(layout, store, arguments, plan)
            kept = _kept(store, shards, workers, timeout, say)
            rest = [number for number in range(len(shards)) if number not in kept]
            _write(store, shards, rest, workers, timeout)
            _verify(store, shards, rest, workers, timeout)
            _finish(layout, store, shards, plan)
        except SampleError as error:
            if arguments.on_bad == "skip":  # it was sound when damage was looked for
                raise
            raise DataError(
                f"{error.where}: {error.reason}; fetch it again, and the same command keeps what is "
                "finished; or leave out what is damaged: --on-bad skip and an empty OUT"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"{error.filename or out} cannot be written or read ({error.strerror}); finished shards are "
                "kept: put it right and start the same command again"
            ) from error
    say(f"{some(shards.samples, 'sample')} in {some(len(shards), 'shard')}, read back: {store.index}")
    if plan["skipped"]:
        say(f"{some(len(plan['skipped']), 'damaged image')} left out: {store.skipped}")


def _kept(
    store: Store, shards: Shards, workers: int, timeout: float, say: Callable[[str], None]
) -> frozenset[int]:
    """The numbers of shards that earlier starts finished and that are still what they were."""
    recorded = [number for number in range(len(shards)) if store.record(shards.file(number)) is not None]
    wrong = _read_back(store, shards, recorded, "looking at finished shards", workers, timeout)
    for number, what in sorted(wrong.items()):
        say(f"{shards.file(number)} is made anew: {what}")
        store.forget(shards.file(number))
    if recorded:
        say(f"{some(len(recorded) - len(wrong), 'shard')} of {len(shards):,} kept")
    return frozenset(recorded) - frozenset(wrong)


def _write(store: Store, shards: Shards, numbers: list[int], workers: int, timeout: float) -> None:
    total = sum(shards.samples_of(number) for number in numbers)
    tasks = (shards.shard(number) for number in numbers)
    done = 0
    with Progress("packing", total, "images") as progress:

        def tick(begun: int) -> None:
            progress.reached(done + begun)

        for outcome in run_crew(write_shard, tasks, workers=workers, timeout=timeout, tick=tick):
            if isinstance(outcome, Lost):
                raise SampleError(
                    outcome.task.paths[outcome.item], outcome.reason, "look at it, or remove it"
                )
            done += outcome.result.samples
            store.keep_record(Path(outcome.task.file).name, outcome.result)


def _verify(store: Store, shards: Shards, numbers: list[int], workers: int, timeout: float) -> None:
    for number, what in _read_back(store, shards, numbers, "reading back", workers, timeout).items():
        store.forget(shards.file(number))
        raise DataError(
            f"{store.out / shards.file(number)} does not read back as it was written ({what}): is the disk "
            "sound? The same command makes it anew"
        )


def _read_back(
    store: Store, shards: Shards, numbers: list[int], title: str, workers: int, timeout: float
) -> dict[int, str]:
    """Number -> what is wrong, for those of the recorded shards that are not as they were written."""
    tasks = (
        (shards.shard(number), written)
        for number in numbers
        if (written := store.record(shards.file(number))) is not None
    )
    by_file = {shards.file(number): number for number in numbers}
    wrong: dict[int, str] = {}
    done = 0
    with Progress(title, len(numbers), "shards") as progress:

        def tick(_: int) -> None:
            progress.reached(done)

        for outcome in run_crew(verify_shard, tasks, workers=workers, timeout=_A_SHARD * timeout, tick=tick):
            done += 1
            shard, _ = outcome.task
            what = outcome.reason if isinstance(outcome, Lost) else outcome.result
            if what:
                wrong[by_file[Path(shard.file).name]] = what
    return wrong


def _finish(layout: SplitLayout, store: Store, shards: Shards, plan: dict[str, Any]) -> None:
    """The index, and the list of what was left out."""
    if plan["skipped"]:
        rows = io.StringIO()
        table = csv.writer(rows, lineterminator="\n")
        table.writerow(("path", "reason"))
        table.writerows((os.fspath(layout.locate(index)), reason) for index, reason in plan["skipped"])
        write_text(store.skipped, rows.getvalue())
    files = [shards.file(number) for number in range(len(shards))]
    records = [store.record(file) for file in files]
    write_json(
        store.index,
        {
            "version": INDEX_VERSION,
            "arguments": plan["arguments"],
            "source": plan["source"],
            "classes": list(layout.classes),
            "samples": shards.samples,
            "shards": [
                {"file": file, **asdict(record)}
                for file, record in zip(files, records, strict=True)
                if record is not None
            ],
        },
    )
