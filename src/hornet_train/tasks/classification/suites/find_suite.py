"""Evaluation sets by name, and where they usually lie."""

from __future__ import annotations

from pathlib import Path

from hornet_train.errors import DataError
from hornet_train.tasks.classification.evaluation_sets import EvaluationSet
from hornet_train.tasks.classification.sources import (
    FlatSource,
    FolderSource,
    LabelledImages,
    check_wnids,
    imagenet_wnids,
)
from hornet_train.tasks.classification.suites.corruptions import open_corruptions
from hornet_train.tasks.classification.suites.folders import whole_set
from hornet_train.tasks.classification.suites.metadata import rows_of, subset_wnids
from hornet_train.tasks.classification.suites.real import RealSource
from hornet_train.tasks.classification.suites.suite import Suite

_VAL = ("imagenet/val", "imagenet-1k/val", "ILSVRC2012/val", "ILSVRC/Data/CLS-LOC/val", "ImageNet/val")
_PLACES: dict[EvaluationSet, tuple[str, ...]] = {  # as the archives unpack, or as people name them
    "imagenet": _VAL,
    "imagenet_real": _VAL,
    "imagenet_v2": ("imagenetv2-matched-frequency-format-val", "imagenet-v2", "imagenet_v2"),
    "imagenet_v2_threshold": ("imagenetv2-threshold0.7-format-val",),
    "imagenet_v2_top": ("imagenetv2-top-images-format-val", "imagenetv2-topimages-format-val"),
    "imagenet_a": ("imagenet-a", "imagenet_a", "ImageNet-A"),
    "imagenet_r": ("imagenet-r", "imagenet_r", "ImageNet-R"),
    "imagenet_sketch": ("imagenet-sketch", "imagenet_sketch", "ImageNet-Sketch", "sketch"),
    "imagenet_c": ("imagenet-c", "imagenet_c", "ImageNet-C"),
}
_VAL_LABELS = (
    "LOC_val_solution.csv",
    "ILSVRC2012_validation_ground_truth.txt",
    "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt",
    "val_labels.txt",
    "val.txt",
)


def usual_places(name: EvaluationSet) -> tuple[str, ...]:
    """The folders, below the one that holds all sets, where a set is looked for."""
    return _PLACES[name]


def find_set(root: Path, name: EvaluationSet) -> Path | None:
    """The folder of a set below `root`, None where it is in no usual place."""
    return next((root / place for place in usual_places(name) if (root / place).is_dir()), None)


def open_set(name: EvaluationSet, folder: Path, labels: Path | None = None) -> Suite:
    """The set in a folder.

    Args:
        name: which.
        folder: that of the set itself; for ReaL that of the validation images, or the one that holds `val`.
        labels: ReaL's real.json; None for the published labels.

    Raises:
        DataError: it is not there, or incomplete.
    """
    wnids = imagenet_wnids()
    match name:
        case "imagenet":
            source, notes = _validation(folder)
            return Suite(name, wnids, {"": source}, notes=notes)
        case "imagenet_real":
            real = RealSource(folder / "val" if (folder / "val").is_dir() else folder, labels)
            notes = (f"{real.left_out:,} images without a label are left out",) if real.left_out else ()
            return Suite(name, wnids, {"": real}, left_out=real.left_out, notes=notes)
        case "imagenet_v2" | "imagenet_v2_threshold" | "imagenet_v2_top":
            numbers = [str(label) for label in range(len(wnids))]  # sorted as text, 10 would come before 2
            return Suite(name, wnids, {"": whole_set(folder, numbers, "ImageNet-V2")})
        case "imagenet_a" | "imagenet_r":
            some = subset_wnids(name)
            what = "ImageNet-A" if name == "imagenet_a" else "ImageNet-R"
            return Suite(name, some, {"": whole_set(folder, some, what)}, rows=rows_of(some))
        case "imagenet_sketch":
            return Suite(name, wnids, {"": whole_set(folder, wnids, "ImageNet-Sketch")})
        case "imagenet_c":
            return open_corruptions(folder)


def _validation(folder: Path) -> tuple[LabelledImages, tuple[str, ...]]:
    """ImageNet's validation images, in class folders or loose with a labels file about; and which file."""
    if any(folder.glob("n*/")):
        folders = FolderSource(folder.parent, folder.name)
        leave = "leave this set out (suite=[imagenet_v2,...])"
        check_wnids(folders.classes, imagenet_wnids(), "ImageNet-1K", str(folder), leave)
        return folders, ()
    beside = (folder, *folder.parents[:4])  # Kaggle's lies four folders above
    files = [place / name for place in beside for name in _VAL_LABELS if (place / name).is_file()]
    if not files:
        raise DataError(
            f"{folder} has no class folders, and none of {', '.join(_VAL_LABELS)} is in or above it: put one "
            "there, or evaluate it by itself with data=imagenet data.val_labels=<file>"
        )
    return FlatSource(folder, files[0], imagenet_wnids()), (f"labels of {folder} from {files[0]}",)
