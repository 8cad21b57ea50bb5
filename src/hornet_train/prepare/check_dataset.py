"""Check a data set before training: what it is, what is wrong with it, whether it can be used."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from hornet_train.data.sources.known_damage import remember_damaged
from hornet_train.data.sources.listing import with_count
from hornet_train.data.worker import allowed_bad
from hornet_train.prepare.decode_split import DamagedList, decode_all
from hornet_train.prepare.examine_images import ImageStatistics
from hornet_train.tasks.stored_files import DataFiles, FilesFound, ImageFiles

MAX_DAMAGED = 0.001  # of a split's images; training stops at this share too (data.max_bad)
_FEW = allowed_bad(1000, MAX_DAMAGED)  # that may be damaged whatever the share
_MAX_SHOWN = 5  # lines of one kind


@dataclass
class Report:
    """The findings of a check.

    Attributes:
        found: by the task, from the names of the files; what their content tells is added.
        damaged: number of damaged files in all splits.
    """

    found: FilesFound
    damaged: int = 0

    def verdict(self) -> str:
        """The last line: usable or not, and why."""
        if self.found.faults:
            return f"not usable: {'; '.join(self.found.faults)}"
        if self.found.evaluates is not None:
            return f"usable: an evaluation set, {self.found.evaluates}"
        if self.damaged:
            share = f"at most {MAX_DAMAGED:.1%}, or {_FEW}"
            return f"usable: training replaces the {self.damaged:,} damaged ({share}) by other samples"
        return "usable"


def check(
    data: DataFiles,
    root: Path,
    splits: tuple[str, ...],
    *,
    workers: int,
    timeout: float,
    damaged_csv: Path,
    decode_files: bool = True,
) -> Report:
    """Check a data set. All faults are collected before the verdict.

    Args:
        data: what the task that the data are for knows of its files.
        root: the folder that contains `splits`, or one split itself.
        splits: names of folders in it, that of the training images first; missing ones are skipped.
        workers: number of processes that decode.
        timeout: seconds that one file may take.
        damaged_csv: where the damaged files are listed, if there are any.
        decode_files: False checks file names only.

    Raises:
        DataError: there is nothing to check.
        ConfigError: `damaged_csv` cannot be written, or the task does not check data sets.
    """
    found = data.check_files(root, splits)
    report = Report(found)
    if decode_files:
        with DamagedList(damaged_csv) as damaged:
            for split in found.splits:
                _check_images(split, damaged, found, workers=workers, timeout=timeout)
        if damaged.count:
            found.lines.append(f"damaged: {with_count(damaged.count, 'file')}, listed in {damaged_csv}")
        report.damaged = damaged.count
    return report


def _check_images(
    split: ImageFiles, damaged: DamagedList, found: FilesFound, *, workers: int, timeout: float
) -> None:
    total, before = len(split.paths), damaged.count
    if not total:
        return
    statistics = ImageStatistics(total)
    title = f"decoding {split.name}"

    unreadable: list[bytes] = []

    def report_damaged(index: int, reason: str) -> None:
        unreadable.append(split.paths[index])
        damaged.add(os.fspath(split.locate(index)), reason)

    decode_all(split, report_damaged, statistics, title, workers=workers, timeout=timeout)
    remember_damaged(split.folder, unreadable)
    bad = damaged.count - before
    if statistics.decoded:
        found.lines.append(f"{split.name}: {statistics.describe_sizes()}")
    for what, count in statistics.misnamed.most_common(_MAX_SHOWN):
        found.lines.append(f"{split.name}: {count:,} {what}; decoded all the same")
    if statistics.black:
        found.warnings.append(
            f"{split.name}: {with_count(statistics.black, 'image')} without a pixel above 15 of 255: "
            "are these 12 bits in files of 16? Their high byte is taken: scale them to 16 bits, or to 8"
        )
    if statistics.turned:
        found.warnings.append(
            f"{split.name}: {with_count(statistics.turned, 'photo')} with an EXIF orientation: stored turned "
            "or mirrored, and read so, as by torchvision and timm; data.exif=apply turns them upright"
        )
    duplicates, pairs = statistics.duplicates(3)
    if duplicates:
        names = [(os.fsdecode(split.paths[a]), os.fsdecode(split.paths[b])) for a, b in pairs]
        shown = ", ".join(f"{b} = {a}" for a, b in names)
        more = ", ..." if duplicates > len(pairs) else ""
        files_have = "one file has" if duplicates == 1 else f"{duplicates:,} files have"
        found.warnings.append(f"{split.name}: {files_have} the bytes of another ({shown}{more})")
    found.lines.append(f"{split.name}: {statistics.decoded:,} of {total:,} images decode, {bad:,} damaged")
    if bad and split.name != found.training:
        found.faults.append(
            f"{bad:,} of {total:,} images in {split.name}/ are damaged, and hornet-eval stops at the "
            "first: repair or remove them, or set data.on_bad=skip"
        )
    elif bad > allowed_bad(total, MAX_DAMAGED):
        found.faults.append(
            f"{bad:,} of {total:,} images in {split.name}/ are damaged, more than {MAX_DAMAGED:.1%}"
        )
