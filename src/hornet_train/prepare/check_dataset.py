"""Check a data set before training: what it is, what is wrong with it, whether it can be used."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from hornet_train.data.sources.known_damage import remember_damaged
from hornet_train.data.sources.listing import preview, with_count
from hornet_train.data.worker import allowed_bad
from hornet_train.prepare.decode_split import DamagedList, decode_all
from hornet_train.prepare.examine_images import ImageStatistics
from hornet_train.tasks.stored_files import FilesFound, ImageFiles

MAX_DAMAGED = 0.001  # of a split's images; training stops at this share too (data.max_bad)
_FEW = allowed_bad(1000, MAX_DAMAGED)  # that may be damaged whatever the share
_MAX_SHOWN = 5  # lines of one kind


@dataclass
class Report:
    """The findings of a check.

    Attributes:
        found: by the task, from the names of the files; what their content tells is added.
        damaged: number of damaged files, by split; only splits that have some.
    """

    found: FilesFound
    damaged: dict[str, int] = field(default_factory=dict)

    def verdict(self) -> str:
        """The last line: usable or not, and why."""
        if self.found.faults:
            return f"not usable: {'; '.join(self.found.faults)}"
        if self.found.evaluates is not None:
            return f"usable: an evaluation set, {self.found.evaluates}"
        parts = []
        for name, count in self.damaged.items():
            if name == self.found.training:
                share = f"at most {MAX_DAMAGED:.1%}, or {_FEW}"
                parts.append(f"training replaces the {count:,} damaged ({share}) by other samples")
            else:
                parts.append(f"evaluations in a training leave out the {count:,} damaged in {name}/")
        return ": ".join(("usable", "; ".join(parts))) if parts else "usable"


def check(
    found: FilesFound,
    *,
    workers: int,
    timeout: float,
    damaged_csv: Path,
    decode_files: bool = True,
) -> Report:
    """Check a data set. All faults are collected before the verdict.

    Args:
        found: what the task that the data are for knows of its files; findings are added.
        workers: number of processes that decode.
        timeout: seconds that one file may take.
        damaged_csv: where the damaged files are listed, if there are any.
        decode_files: False checks file names only.

    Raises:
        ConfigError: `damaged_csv` cannot be written.
    """
    report = Report(found)
    if decode_files:
        with DamagedList(damaged_csv) as damaged:
            for split in found.splits:
                if bad := _check_images(split, damaged, found, workers=workers, timeout=timeout):
                    report.damaged[split.name] = bad
        if damaged.count:
            found.lines.append(f"damaged: {with_count(damaged.count, 'file')}, listed in {damaged_csv}")
    return report


def _check_images(
    split: ImageFiles, damaged: DamagedList, found: FilesFound, *, workers: int, timeout: float
) -> int:
    """Decode the images of a split, and say what was found.

    Returns:
        How many are damaged.
    """
    total = len(split.paths)
    if not total:
        return 0
    statistics = ImageStatistics(total)
    title = f"decoding {split.name}"

    unreadable: list[bytes] = []

    def report_damaged(index: int, reason: str) -> None:
        unreadable.append(split.paths[index])
        damaged.add(os.fspath(split.locate(index)), reason)

    decode_all(split, report_damaged, statistics, title, workers=workers, timeout=timeout)
    remember_damaged(split.folder, unreadable)
    bad = len(unreadable)
    if statistics.decoded:
        found.lines.append(f"{split.name}: {statistics.describe_sizes()}")
    for what, count in statistics.misnamed.most_common(_MAX_SHOWN):
        found.lines.append(f"{split.name}: {count:,} {what}; decoded all the same")
    if statistics.black:
        found.warnings.append(
            f"{split.name}: {with_count(statistics.black, 'image')} without a pixel above 15 of 255: "
            "are these 12 bits in files of 16? Their high byte is taken: scale them to 16 bits, or to 8"
        )
    if statistics.turned and not found.upright:
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
    if split.name != found.training:
        _report_held_out(split, unreadable, found)
    elif bad > allowed_bad(total, MAX_DAMAGED):
        found.faults.append(
            f"{bad:,} of {total:,} images in {split.name}/ are damaged, more than {MAX_DAMAGED:.1%}"
        )
    return bad


def _report_held_out(split: ImageFiles, unreadable: list[bytes], found: FilesFound) -> None:
    """What becomes of damaged images that are not trained on.

    An evaluation in a training leaves them out, and ends with an error where no other image is left;
    `hornet-eval` stops at the first.
    """
    if not unreadable:
        return
    bad, total = len(unreadable), len(split.paths)
    names = preview([os.fsdecode(path) for path in unreadable])
    damaged = f"{bad:,} of {total:,} images in {split.name}/ {'is' if bad == 1 else 'are'} damaged ({names})"
    held_out = next(one.name for one in found.splits if one.name != found.training)
    if found.evaluates is not None:
        found.faults.append(
            f"{damaged}, and hornet-eval stops at the first: repair or remove them, or set data.on_bad=skip"
        )
    elif bad < total:
        found.warnings.append(
            f"{damaged}: a training names and counts them and evaluates on the others; hornet-eval stops at "
            "the first, unless data.on_bad=skip. Repair or remove them"
        )
    elif split.name == held_out:
        found.faults.append(
            f"{damaged}: a training ends with an error at its first evaluation, and so does hornet-eval. "
            "Fetch them again, or set data.val=false"
        )
    else:
        found.warnings.append(f"{damaged}: no evaluation on {split.name}/ is possible. Fetch them again")
