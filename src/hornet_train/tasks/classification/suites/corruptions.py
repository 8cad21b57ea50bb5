"""ImageNet-C (Hendrycks & Dietterich, ICLR 2019, arXiv 1903.12261): 15 corruptions in 5 severities."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hornet_train.errors import DataError
from hornet_train.tasks.classification.sources import FolderSource, imagenet_wnids
from hornet_train.tasks.classification.suites.folders import folder_fault
from hornet_train.tasks.classification.suites.suite import Suite

# AlexNet's top-1 error of each corruption, the mean over its severities: the raw figures of the authors'
# repository, github.com/hendrycks/robustness, by which mCE is normalised.
ALEXNET = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.922640,
    "defocus_blur": 0.819880,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.798360,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.717840,
    "jpeg_compression": 0.606500,
}
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")  # published for validation, not in mCE
SEVERITIES = ("1", "2", "3", "4", "5")


def open_corruptions(root: Path) -> Suite:
    """The parts `<corruption>/<severity>` of `root/<corruption>/<severity>/<wnid>/*`.

    The corruptions may also lie one folder deeper, by kind (`noise/gaussian_noise`). One that is not there is
    left out, and then there is no mCE; one that is there must be complete.

    Raises:
        DataError: none is there, or one is incomplete.
    """
    wnids = imagenet_wnids()
    places = {name: place for name in (*ALEXNET, *EXTRA) if (place := _find(root, name)) is not None}
    if not places:
        raise DataError(
            f"data.root={root} has none of ImageNet-C's corruptions ({', '.join([*ALEXNET][:3])}, ...); give "
            "the folder that holds theirs"
        )
    parts = {
        f"{name}/{severity}": place / severity for name, place in places.items() for severity in SEVERITIES
    }
    checked = (folder_fault(folder, wnids, "ImageNet-C") for folder in parts.values())
    if faults := [fault for fault in checked if fault is not None]:
        more = f"\n  and {len(faults) - 3} more folders" if len(faults) > 3 else ""
        raise DataError("\n".join(faults[:3]) + more)
    return Suite(
        "imagenet_c", wnids, {name: FolderSource(at.parent, at.name, wnids) for name, at in parts.items()}
    )


def _find(root: Path, name: str) -> Path | None:
    places = (root / name, *sorted(root.glob(f"*/{name}")))
    return next((place for place in places if place.is_dir()), None)


def corruption_errors(top1: Mapping[str, float]) -> dict[str, Any]:
    """mCE, and the error of each corruption, from the accuracies of `<corruption>/<severity>`.

    The corruption error is CE_c = sum_s E(c, s) / sum_s E_AlexNet(c, s); mCE is the mean of CE_c over the 15
    corruptions.

    Args:
        top1: in per cent; every severity of each corruption there is.

    Returns:
        `mce`, None where one of the 15 is missing; `missing`, the names of these; `corruptions`, by name
        `error` (the mean over the severities), `ce` (None for those beyond the 15) and `severities`, the
        top-1 of each. All in per cent.
    """
    names = dict.fromkeys(part.split("/")[0] for part in top1)
    corruptions: dict[str, dict[str, Any]] = {}
    for name in names:
        accuracies = [top1[f"{name}/{severity}"] for severity in SEVERITIES]
        error = 100 - sum(accuracies) / len(accuracies)
        ce = error / ALEXNET[name] if name in ALEXNET else None
        corruptions[name] = {"error": error, "ce": ce, "severities": accuracies}
    missing = [name for name in ALEXNET if name not in corruptions]
    mce = None if missing else sum(corruptions[name]["ce"] for name in ALEXNET) / len(ALEXNET)
    return {"mce": mce, "missing": missing, "corruptions": corruptions}
