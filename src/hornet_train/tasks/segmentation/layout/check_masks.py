"""Check every mask of a data set: what is in it, and whether it fits its picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from hornet_train.config.conf_files import all_settings
from hornet_train.data.sources.listing import preview, with_count
from hornet_train.data.sources.packed import PackedPaths
from hornet_train.tasks.segmentation.build.classes_of_masks import Pairs
from hornet_train.tasks.segmentation.build.open_data import AS_STORED, NO_LABELS, read_pictures
from hornet_train.tasks.segmentation.schema import Data
from hornet_train.tasks.segmentation.sources.mask_folders import find_pairs
from hornet_train.tasks.segmentation.sources.pairs import PairedFiles
from hornet_train.tasks.segmentation.sources.scan import MaskScan, scan
from hornet_train.tasks.stored_files import FilesFound, ImageFiles

_TOLD = 10  # faults of a split that are named
_SIZES = 3
_AT_ONCE = 1024  # masks


def recognised(root: Path) -> Data:
    """The data group that a folder looks like: ADE20K, Cityscapes, or anyone's masks."""
    source = "masks"
    if not (root / "classes.txt").is_file() and any(
        (one / "annotations" / "training").is_dir() for one in (root, root / "ADEChallengeData2016")
    ):
        source = "ade20k"
    elif (root / "leftImg8bit").is_dir():
        source = "cityscapes"
    settings: dict[str, Any] = {**all_settings("data", source), "root": str(root)}
    if source == "masks" and not _has_val(root):
        settings["val"] = False
    found: Data = TypeAdapter(Data).validate_python(settings)
    return found


def check_pictures(data: Data, *, open_files: bool = True) -> FilesFound:
    """Read every mask. All faults are collected.

    Args:
        data: the group.
        open_files: False checks names alone; masks are read where nothing else names their classes.

    Raises:
        DataError: there is nothing to check, or pictures and masks do not belong together.
    """
    train, val, classes, notes = read_pictures(data, tolerant=True)
    found = FilesFound(training="train", warnings=list(notes), upright=True)
    found.lines.append(f"data.source={data.source}: {len(classes)} classes")
    total = np.zeros(len(classes), dtype=np.int64)
    for name, source in (("train", train), ("val", val)):
        if source is None:
            continue
        if isinstance(source, PairedFiles):
            found.splits.append(ImageFiles(name, source.folder, PackedPaths(source.paths())))
        if not open_files:
            found.lines.append(f"{name}: {with_count(len(source), 'mask')}")
            continue
        looked = _scan_all(source, len(classes))
        _report(found, name, looked)
        total += looked.pixels
    if not open_files:
        return found
    if not total.sum() and not found.faults:
        found.faults.append(NO_LABELS.format("masks"))
    elif total.sum():
        found.lines.append(f"pixels by class: {_shares(total, classes)}")
    if absent := [name for name, pixels in zip(classes, total, strict=True) if not pixels]:
        found.warnings.append(f"{len(absent)} of the {len(classes)} classes never come: {preview(absent)}")
    return found


def _scan_all(source: Pairs, classes: int) -> MaskScan:
    """Every mask, some at a time."""
    total = MaskScan(len(source), np.zeros(classes, dtype=np.int64))
    for first in range(0, len(source), _AT_ONCE):
        part = scan(source, classes, range(first, min(first + _AT_ONCE, len(source))))
        total.pixels += part.pixels
        total.ignored += part.ignored
        total.sizes = part.sizes | total.sizes
        total.faults += part.faults
        total.as_stored += part.as_stored
    return total


def _report(found: FilesFound, name: str, looked: MaskScan) -> None:
    labelled = int(looked.pixels.sum())
    share = looked.ignored / max(1, labelled + looked.ignored)
    sizes = sorted(looked.sizes)
    spread = (
        f"{len(sizes)} sizes, from {_times(sizes[0])} to {_times(sizes[-1])}"
        if len(sizes) > _SIZES
        else (", ".join(map(_times, sizes)))
    )
    found.lines.append(
        f"{name}: {with_count(looked.looked_at, 'mask')}, {spread or 'none to be read'}; {share:.1%} of the "
        "pixels have no label"
    )
    if looked.as_stored:
        found.warnings.append(f"{name}: {AS_STORED.format(looked.as_stored)}")
    if not looked.faults:
        return
    for fault in looked.faults[:_TOLD]:
        found.lines.append(f"{name}: {fault}")
    if len(looked.faults) > _TOLD:
        found.lines.append(f"{name}: ... and {len(looked.faults) - _TOLD} more")
    found.faults.append(
        f"{len(looked.faults):,} of {with_count(looked.looked_at, 'mask')} of {name} cannot be used "
        f"(the first: {looked.faults[0].where}: {looked.faults[0].reason})"
    )


def _shares(pixels: np.ndarray, classes: tuple[str, ...]) -> str:
    """Every class with its share, the most frequent first."""
    order = np.argsort(-pixels, kind="stable")
    return ", ".join(
        f"{classes[label]} {pixels[label] / pixels.sum():.2%}" for label in order if pixels[label]
    )


def _times(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _has_val(root: Path) -> bool:
    return find_pairs(root, "val") is not None
