"""What a data set of class folders is, and whether it can be used, by the names of its files."""

from __future__ import annotations

from pathlib import Path

from hornet_train.data.sources.listing import preview, same_text, with_count
from hornet_train.errors import DataError
from hornet_train.tasks.classification.layout.label_sets import LabelSet, recognise, unknown_wnids
from hornet_train.tasks.classification.layout.similar_classes import near_duplicates
from hornet_train.tasks.classification.layout.split_layout import SplitLayout, list_root
from hornet_train.tasks.classification.sources import FlatSource, imagenet_wnids
from hornet_train.tasks.classification.sources.match_classes import match_classes
from hornet_train.tasks.classification.sources.split_folders import as_called
from hornet_train.tasks.stored_files import FilesFound

_MAX_SHOWN = 5  # lines of one kind


def check_layout(root: Path, splits: tuple[str, ...]) -> FilesFound:
    """List a data set of class folders. All faults are collected.

    Args:
        root: the folder that contains `splits`, or one split itself.
        splits: names of folders in it, that of the training images first; missing ones are skipped.

    Raises:
        DataError: there is nothing to check.
    """
    splits = as_called(root, splits)
    layouts, kind = list_root(root, splits)
    found = FilesFound([*layouts], training=splits[0])
    _report_layout(root, splits, layouts, kind, found)
    for layout in layouts:
        _check_split(layout, found, trained_on=layout.name in (splits[0], root.absolute().name))
    label_set = _check_classes(layouts, found)
    if kind == "no splits":
        found.training = None
        if label_set is not None and label_set.suite is not None:
            found.evaluates = f"hornet-eval data={label_set.suite} data.root={root}"
        else:
            found.training = layouts[0].name
            found.warnings.append(
                f"no {splits[0]}/ in {root}: to train on its class folders, hornet-train data=folder "
                f"data.root={root} data.val_share=0.2"
            )
    _compare_classes(layouts, found)
    for layout in layouts:
        _check_image_counts(layout, label_set, found)
    return found


def _report_layout(
    root: Path, splits: tuple[str, ...], layouts: list[SplitLayout], kind: str, found: FilesFound
) -> None:
    if kind == "splits":
        present = [layout.name for layout in layouts]
        found.lines.append(f"layout: {', '.join(f'{name}/' for name in present)} in {root}")
        if absent := [name for name in splits if name not in present]:
            remedy = ": data.val_share=0.2 holds images out, data.val=false none" if "val" in absent else ""
            found.warnings.append(f"no {', '.join(f'{name}/' for name in absent)} in {root}{remedy}")
    elif kind == "is a split":
        found.lines.append(f"layout: {root} is the split itself; data.root={root.absolute().parent}")
    else:
        found.lines.append(f"layout: class folders in {root} itself")


def _check_split(layout: SplitLayout, found: FilesFound, *, trained_on: bool) -> None:
    name = layout.name
    if layout.flat:
        found.lines.append(f"{name}: {with_count(len(layout.loose), 'image')} without class folders")
        if layout.name == "train":
            found.faults.append(f"{name}/ has no class folders: sort its images into one folder a class")
        elif layout.label_files:
            _check_label_files(layout, found)
        else:
            found.faults.append(
                f"{name}/ has no class folders and there is no labels file in it or beside it: sort its "
                "images into class folders, or fetch the file and set data.val_labels="
            )
    elif not len(layout.paths):
        found.faults.append(f"{name}/ has no images")
    else:
        counts = [0] * len(layout.classes)
        for label in layout.labels:
            counts[label] += 1
        least, most = min(counts), max(counts)
        spread = f"{least:,}" if least == most else f"{least:,} to {most:,}"
        found.lines.append(
            f"{name}: {len(layout.classes):,} classes, {len(layout.paths):,} images, {spread} a class"
        )
        if layout.loose:
            found.warnings.append(
                f"{name}: {with_count(len(layout.loose), 'image')} beside the class folders, not used "
                f"({preview(layout.loose)})"
            )
    if layout.empty:
        empty = with_count(len(layout.empty), "class folder")
        what = f"{name}/ has {empty} without an image ({preview(layout.empty)})"
        if trained_on:
            found.faults.append(what)
        else:
            found.warnings.append(f"{what}: as if they were not there")
    found.faults += [f"{name}/: {fault}" for fault in same_text(layout.classes)]
    if layout.unlisted:
        found.faults.append(f"folders that cannot be listed: {preview(layout.unlisted)}")
    if layout.nested:
        found.lines.append(
            f"{name}: {with_count(layout.nested, 'image')} in subfolders of class folders; used all the same"
        )
    for reason, count in layout.ignored.most_common(_MAX_SHOWN):
        found.lines.append(f"{name}: {with_count(count, 'file')} ignored: {reason}")


def _check_label_files(layout: SplitLayout, found: FilesFound) -> None:
    """Report the first labels file that fits ImageNet's loose validation images, or why none fits."""
    faults = []
    for file in layout.label_files:
        try:
            FlatSource(layout.folder, file, imagenet_wnids())
        except DataError as error:
            faults.append(str(error))
        else:
            found.lines.append(f"{layout.name}: for its labels set data.val_labels={file}")
            return
    found.faults.append(faults[0])


def _check_classes(layouts: list[SplitLayout], found: FilesFound) -> LabelSet | None:
    """Recognise the label set of the first split with classes, and compare class names across all splits.

    Returns:
        The label set that the classes are exactly, if any.
    """
    classes = next((layout.classes for layout in layouts if layout.classes), ())
    if not classes:
        return None
    label_set, sentence = recognise(classes)
    found.lines.append(f"classes: {sentence}")
    if wrong := unknown_wnids(classes):
        found.warnings.append(
            f"{with_count(len(wrong), 'name')} in the form of WordNet ids that are in no ImageNet "
            f"({preview(wrong)})"
        )
    everywhere = sorted({name for layout in layouts for name in layout.classes})
    pairs = near_duplicates(everywhere)
    for one, other, difference in pairs[:_MAX_SHOWN]:
        found.warnings.append(f"classes {one!r} and {other!r} differ only in {difference}: one class?")
    if len(pairs) > _MAX_SHOWN:
        found.warnings.append(f"{len(pairs) - _MAX_SHOWN:,} more pairs of nearly equal class names")
    if len(classes) < 2:
        found.faults.append(f"one class only, {classes[0]!r}")
    return label_set


def _compare_classes(layouts: list[SplitLayout], found: FilesFound) -> None:
    classed = [layout for layout in layouts if layout.classes]
    for other in classed[1:]:
        first = classed[0]
        try:
            matched = match_classes(other.classes, first.classes, here=other.name, there=first.name)
        except DataError as error:
            found.faults.append(str(error))
            continue
        found.warnings += matched.notes
        if matched.absent:
            found.warnings.append(
                f"{len(matched.absent):,} of the {len(first.classes):,} classes have no image in "
                f"{other.name} ({preview(matched.absent)}): evaluations are of the others"
            )
        elif not matched.notes:
            found.lines.append(f"classes: {first.name} and {other.name} have the same")


def _check_image_counts(layout: SplitLayout, label_set: LabelSet | None, found: FilesFound) -> None:
    if label_set is None or layout.name not in label_set.images:
        return
    expected, count = label_set.images[layout.name], len(layout.paths)
    if count == expected:
        found.lines.append(f"{layout.name}: {count:,} images, all of {label_set.name}'s")
    else:
        which = "missing" if count < expected else "too many"
        found.warnings.append(
            f"{layout.name}: {label_set.name} has {expected:,} images: {abs(expected - count):,} {which}"
        )
