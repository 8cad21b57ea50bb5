"""A data set checked before it is trained on: what it is, what is wrong with it, whether it can be used."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from hornet_train.data.sources.listing import preview
from hornet_train.errors import DataError
from hornet_train.prepare.decode_split import DamagedList, decode_all
from hornet_train.prepare.examine_images import Tally
from hornet_train.prepare.label_sets import Known, recognise, unknown_wnids
from hornet_train.prepare.split_layout import SplitLayout, list_root, some
from hornet_train.prepare.class_names import near_duplicates
from hornet_train.tasks.classification.sources import FlatSource, check_same_classes, imagenet_wnids

MAX_DAMAGED = 0.001  # of a split's images; training stops at this share too (data.max_bad)
_SHOWN = 5


@dataclass
class Report:
    """What a check says.

    Attributes:
        lines: what was found, in order.
        warnings: what somebody should look at.
        faults: why the data set cannot be used as it lies; none where it can.
        damaged: damaged files, all splits together.
        evaluates: the evaluation set that this is, by its name in `data=`, if it is one.
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
    """Check a data set of class folders; everything that can be found is found before the verdict.

    Args:
        root: the folder that holds `splits`; or one split itself.
        splits: names of folders in it, that of the training images first; those that are not there are left
            out.
        workers: processes that decode.
        timeout: seconds that one file may take.
        damaged_csv: where the damaged files are listed, if there are any.
        decode_files: False looks at names only.

    Raises:
        DataError: there is nothing to check, or the list cannot be written.
    """
    report = Report()
    layouts, kind = list_root(root, splits)
    _tell_layout(root, splits, layouts, kind, report)
    for layout in layouts:
        _judge_split(layout, report)
    known = _judge_classes(layouts, report)
    if kind == "no splits":
        if known is not None and known.suite is not None:
            report.evaluates = f"hornet-eval data={known.suite} data.root={root}"
        else:
            where = f"{root / splits[0]}/"
            report.faults.append(f"there is no {splits[0]}/ in {root}: put the class folders into {where}")
    _judge_together(layouts, report)
    for layout in layouts:
        _judge_counts(layout, known, report)
    if decode_files:
        with DamagedList(damaged_csv) as damaged:
            for layout in layouts:
                trains = kind == "splits" and layout.name == splits[0]
                _decode_split(layout, damaged, report, trains, workers=workers, timeout=timeout)
        if damaged.count:
            report.lines.append(f"damaged: {some(damaged.count, 'file')}, listed in {damaged_csv}")
        report.damaged = damaged.count
    return report


def _tell_layout(
    root: Path, splits: tuple[str, ...], layouts: list[SplitLayout], kind: str, report: Report
) -> None:
    if kind == "splits":
        there = [layout.name for layout in layouts]
        report.lines.append(f"layout: {', '.join(f'{name}/' for name in there)} in {root}")
        if absent := [name for name in splits if name not in there]:
            remedy = "; without val set data.val=false" if "val" in absent else ""
            report.warnings.append(f"no {', '.join(f'{name}/' for name in absent)} in {root}{remedy}")
    elif kind == "is a split":
        report.lines.append(f"layout: {root} is the split itself; data.root={root.absolute().parent}")
    else:
        report.lines.append(f"layout: class folders in {root} itself")


def _judge_split(layout: SplitLayout, report: Report) -> None:
    name = layout.name
    if layout.flat:
        report.lines.append(f"{name}: {some(len(layout.loose), 'image')} without class folders")
        if layout.name == "train":
            report.faults.append(f"{name}/ has no class folders: sort its images into one folder a class")
        elif layout.label_files:
            _judge_labels(layout, report)
        else:
            report.faults.append(
                f"{name}/ has no class folders and no labels file lies in it or beside it: sort its images "
                "into class folders, or fetch the file and set data.val_labels="
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
                f"{name}: {some(len(layout.loose), 'image')} beside the class folders, not used "
                f"({preview(layout.loose)})"
            )
    if layout.empty:
        empty = some(len(layout.empty), "class folder")
        report.faults.append(f"{name}/ has {empty} without an image ({preview(layout.empty)})")
    if layout.unlisted:
        report.faults.append(f"folders that cannot be listed: {preview(layout.unlisted)}")
    if layout.nested:
        report.lines.append(
            f"{name}: {some(layout.nested, 'image')} deeper than the class folder; used all the same"
        )
    for reason, count in layout.ignored.most_common(_SHOWN):
        report.lines.append(f"{name}: {some(count, 'file')} passed over: {reason}")


def _judge_labels(layout: SplitLayout, report: Report) -> None:
    """The first labels file that goes with ImageNet's loose validation images."""
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


def _judge_classes(layouts: list[SplitLayout], report: Report) -> Known | None:
    """By the classes of the first split that has some; names are compared across all of them."""
    classes = next((layout.classes for layout in layouts if layout.classes), ())
    if not classes:
        return None
    known, sentence = recognise(classes)
    report.lines.append(f"classes: {sentence}")
    if wrong := unknown_wnids(classes):
        report.warnings.append(
            f"{some(len(wrong), 'name')} in the form of WordNet ids that no ImageNet has ({preview(wrong)})"
        )
    everywhere = sorted({name for layout in layouts for name in layout.classes})
    pairs = near_duplicates(everywhere)
    for one, other, difference in pairs[:_SHOWN]:
        report.warnings.append(f"classes {one!r} and {other!r} differ only in {difference}: one class?")
    if len(pairs) > _SHOWN:
        report.warnings.append(f"{len(pairs) - _SHOWN:,} more pairs of nearly equal class names")
    if len(classes) < 2:
        report.faults.append(f"one class only, {classes[0]!r}")
    return known


def _judge_together(layouts: list[SplitLayout], report: Report) -> None:
    classed = [layout for layout in layouts if layout.classes]
    for first, other in pairwise(classed):
        try:
            check_same_classes(first.classes, other.classes)
        except DataError as error:
            report.faults.append(str(error))
        else:
            report.lines.append(f"classes: {first.name} and {other.name} have the same")


def _judge_counts(layout: SplitLayout, known: Known | None, report: Report) -> None:
    if known is None or layout.name not in known.images:
        return
    expected, have = known.images[layout.name], len(layout.paths)
    if have == expected:
        report.lines.append(f"{layout.name}: {have:,} images, all of {known.name}'s")
    else:
        which = "missing" if have < expected else "too many"
        report.warnings.append(
            f"{layout.name}: {known.name} has {expected:,} images: {abs(expected - have):,} {which}"
        )


def _decode_split(
    layout: SplitLayout, damaged: DamagedList, report: Report, trains: bool, *, workers: int, timeout: float
) -> None:
    total, before = len(layout.paths), damaged.count
    if not total:
        return
    tally = Tally(total)
    title = f"decoding {layout.name}"

    def tell(index: int, reason: str) -> None:
        damaged.add(os.fspath(layout.locate(index)), reason)

    decode_all(layout, tell, tally, title, workers=workers, timeout=timeout)
    bad = damaged.count - before
    if tally.good:
        report.lines.append(f"{layout.name}: {tally.sizes()}")
    for what, count in tally.misnamed.most_common(_SHOWN):
        report.lines.append(f"{layout.name}: {count:,} {what}; decoded all the same")
    again, pairs = tally.duplicates(3)
    if again:
        names = [(os.fsdecode(layout.paths[a]), os.fsdecode(layout.paths[b])) for a, b in pairs]
        shown = ", ".join(f"{b} = {a}" for a, b in names)
        more = ", ..." if again > len(pairs) else ""
        twice = "one file has" if again == 1 else f"{again:,} files have"
        report.warnings.append(f"{layout.name}: {twice} the bytes of another ({shown}{more})")
    report.lines.append(f"{layout.name}: {tally.good:,} of {total:,} images decode, {bad:,} damaged")
    if bad and not trains:
        report.faults.append(
            f"{bad:,} of {total:,} images in {layout.name}/ are damaged, and an evaluation stops at the "
            "first: mend or remove them, or set data.on_bad=skip"
        )
    elif bad > MAX_DAMAGED * total:
        report.faults.append(
            f"{bad:,} of {total:,} images in {layout.name}/ are damaged, more than {MAX_DAMAGED:.1%}"
        )
