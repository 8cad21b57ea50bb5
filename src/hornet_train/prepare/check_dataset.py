"""Check a data set before training: what it is, what is wrong with it, whether it can be used."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from hornet_train.data.sources.listing import preview
from hornet_train.errors import DataError
from hornet_train.prepare.decode_split import DamagedList, decode_all
from hornet_train.prepare.examine_images import ImageStatistics
from hornet_train.prepare.label_sets import LabelSet, recognise, unknown_wnids
from hornet_train.prepare.similar_classes import near_duplicates
from hornet_train.prepare.split_layout import SplitLayout, list_root, with_count
from hornet_train.tasks.classification.sources import FlatSource, check_same_classes, imagenet_wnids

MAX_DAMAGED = 0.001  # of a split's images; training stops at this share too (data.max_bad)
_MAX_SHOWN = 5  # lines of one kind


@dataclass
class Report:
    """The findings of a check.

    Attributes:
        lines: what was found, in order.
        warnings: what the user should look at.
        faults: why the data set cannot be used as it is; empty if it can.
        damaged: number of damaged files in all splits.
        evaluates: if this is a known evaluation set, the command that evaluates on it.
    """

    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    damaged: int = 0
    evaluates: str | None = None

    def verdict(self) -> str:
        """The last line: usable or not, and why."""
        if self.faults:
            return f"not usable: {'; '.join(self.faults)}"
        if self.evaluates is not None:
            return f"usable: an evaluation set, {self.evaluates}"
        if self.damaged:
            share = f"at most {MAX_DAMAGED:.1%}"
            return f"usable: training replaces the {self.damaged:,} damaged ({share}) by other samples"
        return "usable"


def check(
    root: Path,
    splits: tuple[str, ...],
    *,
    workers: int,
    timeout: float,
    damaged_csv: Path,
    decode_files: bool = True,
) -> Report:
    """Check a data set of class folders. All faults are collected before the verdict.

    Args:
        root: the folder that contains `splits`, or one split itself.
        splits: names of folders in it, that of the training images first; missing ones are skipped.
        workers: number of processes that decode.
        timeout: seconds that one file may take.
        damaged_csv: where the damaged files are listed, if there are any.
        decode_files: False checks file names only.

    Raises:
        DataError: there is nothing to check.
        ConfigError: `damaged_csv` cannot be written.
    """
    report = Report()
    layouts, kind = list_root(root, splits)
    _report_layout(root, splits, layouts, kind, report)
    for layout in layouts:
        _check_split(layout, report)
    label_set = _check_classes(layouts, report)
    if kind == "no splits":
        if label_set is not None and label_set.suite is not None:
            report.evaluates = f"hornet-eval data={label_set.suite} data.root={root}"
        else:
            where = f"{root / splits[0]}/"
            report.faults.append(f"there is no {splits[0]}/ in {root}: put the class folders into {where}")
    _compare_classes(layouts, report)
    for layout in layouts:
        _check_image_counts(layout, label_set, report)
    if decode_files:
        with DamagedList(damaged_csv) as damaged:
            for layout in layouts:
                is_training_split = kind == "splits" and layout.name == splits[0]
                _check_images(layout, damaged, report, is_training_split, workers=workers, timeout=timeout)
        if damaged.count:
            report.lines.append(f"damaged: {with_count(damaged.count, 'file')}, listed in {damaged_csv}")
        report.damaged = damaged.count
    return report


def _report_layout(
    root: Path, splits: tuple[str, ...], layouts: list[SplitLayout], kind: str, report: Report
) -> None:
    if kind == "splits":
        present = [layout.name for layout in layouts]
        report.lines.append(f"layout: {', '.join(f'{name}/' for name in present)} in {root}")
        if absent := [name for name in splits if name not in present]:
            remedy = "; without val set data.val=false" if "val" in absent else ""
            report.warnings.append(f"no {', '.join(f'{name}/' for name in absent)} in {root}{remedy}")
    elif kind == "is a split":
        report.lines.append(f"layout: {root} is the split itself; data.root={root.absolute().parent}")
    else:
        report.lines.append(f"layout: class folders in {root} itself")


def _check_split(layout: SplitLayout, report: Report) -> None:
    name = layout.name
    if layout.flat:
        report.lines.append(f"{name}: {with_count(len(layout.loose), 'image')} without class folders")
        if layout.name == "train":
            report.faults.append(f"{name}/ has no class folders: sort its images into one folder a class")
        elif layout.label_files:
            _check_label_files(layout, report)
        else:
            report.faults.append(
                f"{name}/ has no class folders and there is no labels file in it or beside it: sort its "
                "images into class folders, or fetch the file and set data.val_labels="
            )
    elif not len(layout.paths):
        report.faults.append(f"{name}/ has no images")
    else:
        counts = [0] * len(layout.classes)
        for label in layout.labels:
            counts[label] += 1
        least, most = min(counts), max(counts)
        spread = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        report.lines.append(
            f"{name}: {len(layout.classes):,} classes, {len(layout.paths):,} images, {spread} a class"
        )
        if layout.loose:
            report.warnings.append(
                f"{name}: {with_count(len(layout.loose), 'image')} beside the class folders, not used "
                f"({preview(layout.loose)})"
            )
    if layout.empty:
        empty = with_count(len(layout.empty), "class folder")
        report.faults.append(f"{name}/ has {empty} without an image ({preview(layout.empty)})")
    if layout.unlisted:
        report.faults.append(f"folders that cannot be listed: {preview(layout.unlisted)}")
    if layout.nested:
        report.lines.append(
            f"{name}: {with_count(layout.nested, 'image')} in subfolders of class folders; used all the same"
        )
    for reason, count in layout.ignored.most_common(_MAX_SHOWN):
        report.lines.append(f"{name}: {with_count(count, 'file')} ignored: {reason}")


def _check_label_files(layout: SplitLayout, report: Report) -> None:
    """Report the first labels file that fits ImageNet's loose validation images, or why none fits."""
    faults = []
    for file in layout.label_files:
        try:
            FlatSource(layout.folder, file, imagenet_wnids())
        except DataError as error:
            faults.append(str(error))
        else:
            report.lines.append(f"{layout.name}: for its labels set data.val_labels={file}")
            return
    report.faults.append(faults[0])


def _check_classes(layouts: list[SplitLayout], report: Report) -> LabelSet | None:
    """Recognise the label set of the first split with classes, and compare class names across all splits.

    Returns:
        The label set that the classes are exactly, if any.
    """
    classes = next((layout.classes for layout in layouts if layout.classes), ())
    if not classes:
        return None
    label_set, sentence = recognise(classes)
    report.lines.append(f"classes: {sentence}")
    if wrong := unknown_wnids(classes):
        report.warnings.append(
            f"{with_count(len(wrong), 'name')} in the form of WordNet ids that are in no ImageNet "
            f"({preview(wrong)})"
        )
    everywhere = sorted({name for layout in layouts for name in layout.classes})
    pairs = near_duplicates(everywhere)
    for one, other, difference in pairs[:_MAX_SHOWN]:
        report.warnings.append(f"classes {one!r} and {other!r} differ only in {difference}: one class?")
    if len(pairs) > _MAX_SHOWN:
        report.warnings.append(f"{len(pairs) - _MAX_SHOWN:,} more pairs of nearly equal class names")
    if len(classes) < 2:
        report.faults.append(f"one class only, {classes[0]!r}")
    return label_set


def _compare_classes(layouts: list[SplitLayout], report: Report) -> None:
    classed = [layout for layout in layouts if layout.classes]
    for first, other in pairwise(classed):
        try:
            check_same_classes(first.classes, other.classes)
        except DataError as error:
            report.faults.append(str(error))
        else:
            report.lines.append(f"classes: {first.name} and {other.name} have the same")


def _check_image_counts(layout: SplitLayout, label_set: LabelSet | None, report: Report) -> None:
    if label_set is None or layout.name not in label_set.images:
        return
    expected, count = label_set.images[layout.name], len(layout.paths)
    if count == expected:
        report.lines.append(f"{layout.name}: {count:,} images, all of {label_set.name}'s")
    else:
        which = "missing" if count < expected else "too many"
        report.warnings.append(
            f"{layout.name}: {label_set.name} has {expected:,} images: {abs(expected - count):,} {which}"
        )


def _check_images(
    layout: SplitLayout,
    damaged: DamagedList,
    report: Report,
    is_training_split: bool,
    *,
    workers: int,
    timeout: float,
) -> None:
    total, before = len(layout.paths), damaged.count
    if not total:
        return
    statistics = ImageStatistics(total)
    title = f"decoding {layout.name}"

    def report_damaged(index: int, reason: str) -> None:
        damaged.add(os.fspath(layout.locate(index)), reason)

    decode_all(layout, report_damaged, statistics, title, workers=workers, timeout=timeout)
    bad = damaged.count - before
    if statistics.decoded:
        report.lines.append(f"{layout.name}: {statistics.describe_sizes()}")
    for what, count in statistics.misnamed.most_common(_MAX_SHOWN):
        report.lines.append(f"{layout.name}: {count:,} {what}; decoded all the same")
    duplicates, pairs = statistics.duplicates(3)
    if duplicates:
        names = [(os.fsdecode(layout.paths[a]), os.fsdecode(layout.paths[b])) for a, b in pairs]
        shown = ", ".join(f"{b} = {a}" for a, b in names)
        more = ", ..." if duplicates > len(pairs) else ""
        files_have = "one file has" if duplicates == 1 else f"{duplicates:,} files have"
        report.warnings.append(f"{layout.name}: {files_have} the bytes of another ({shown}{more})")
    report.lines.append(f"{layout.name}: {statistics.decoded:,} of {total:,} images decode, {bad:,} damaged")
    if bad and not is_training_split:
        report.faults.append(
            f"{bad:,} of {total:,} images in {layout.name}/ are damaged, and an evaluation stops at the "
            "first: repair or remove them, or set data.on_bad=skip"
        )
    elif bad > MAX_DAMAGED * total:
        report.faults.append(
            f"{bad:,} of {total:,} images in {layout.name}/ are damaged, more than {MAX_DAMAGED:.1%}"
        )
