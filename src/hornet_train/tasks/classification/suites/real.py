"""ReaL: ImageNet's validation images under reassessed labels (Beyer et al., arXiv 2006.07159)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import torch

from hornet_train.data.sources.files import FileList
from hornet_train.data.sources.listing import check_folder, preview
from hornet_train.data.sources.source import Fields, sha256_of
from hornet_train.errors import DataError
from hornet_train.tasks.classification.sources.labelled import IMAGE, LABEL
from hornet_train.tasks.classification.sources.wnids import imagenet_wnids
from hornet_train.tasks.classification.suites.metadata import published_real_labels
from hornet_train.untrusted import MAX_LABELS, parse_json, read_within

_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.jpe?g", re.IGNORECASE)


class RealSource:
    """ILSVRC2012_val_<i>.JPEG below a folder, at any depth, each under the i-th list of labels.

    A label is int64 (K,), K the length of the longest list, padded with -1: any of them is right. Images
    whose list is empty are left out.

    Attributes:
        classes: ImageNet-1K's wnids.
        left_out: images without a label.
    """

    def __init__(self, folder: Path, labels: Path | None = None) -> None:
        """List the images.

        Args:
            folder: ImageNet's val folder, flat or in class folders.
            labels: real.json, a list of label lists in the order of the images' names; None for the published
                one.

        Raises:
            DataError: the labels cannot be read, or images and labels do not pair off.
        """
        self.classes = imagenet_wnids()
        lists = published_real_labels() if labels is None else _read(labels, len(self.classes))
        paths = _numbered(folder)
        faults = []
        if missing := [i for i in range(1, len(lists) + 1) if i not in paths]:
            faults.append(f"{len(missing):,} missing ({_names(missing)})")
        if beyond := sorted(i for i in paths if not 1 <= i <= len(lists)):
            faults.append(f"{len(beyond):,} without an entry in the labels ({_names(beyond)})")
        if faults:
            raise DataError(
                f"{folder}: of the {len(lists):,} images that ReaL labels, {'; '.join(faults)}; it should "
                "hold ImageNet's validation images under their own names"
            )
        taken = [i for i, given in enumerate(lists, 1) if given]
        if not taken:
            raise DataError(f"data.labels={labels}: no image has a label; give ReaL's real.json")
        self.left_out = len(lists) - len(taken)
        self._files = FileList(folder, (paths[i] for i in taken))
        self._labels = np.full((len(taken), max(map(len, lists))), -1, dtype=np.int64)
        for row, i in zip(self._labels, taken, strict=True):
            given = sorted(set(lists[i - 1]))
            row[: len(given)] = given

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: int) -> Fields:
        return {IMAGE: self._files.read(index), LABEL: torch.from_numpy(self._labels[index].copy())}

    def locate(self, index: int) -> str:
        return self._files.locate(index)

    @property
    def fingerprint(self) -> str:
        return sha256_of(self._files.paths.block(), self._labels)


def _read(path: Path, classes: int) -> list[list[int]]:
    """A real.json, checked."""
    try:
        lists = parse_json(read_within(path, MAX_LABELS))
    except OSError as error:
        raise DataError(f"data.labels={path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise DataError(f"data.labels={path}: is not JSON ({error})") from error
    if not isinstance(lists, list) or not all(isinstance(given, list) for given in lists):
        raise DataError(f"data.labels={path}: is not a list of label lists, one an image, as real.json is")
    wrong = [i for i, given in enumerate(lists, 1) if not all(_is_label(label, classes) for label in given)]
    if wrong:
        raise DataError(
            f"data.labels={path}: labels that are not 0..{classes - 1}, of {_names(wrong)}; fetch it again"
        )
    return lists


def _is_label(value: object, classes: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < classes


def _numbered(folder: Path) -> dict[int, bytes]:
    """Number -> path below `folder` of the validation images there."""
    check_folder(folder, "data.root should be ImageNet's val folder, or hold it")

    def unreadable(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be listed ({error.strerror}); check its permissions")

    found: dict[int, bytes] = {}
    met: set[tuple[int, int]] = set()
    for place, below, files in os.walk(folder, onerror=unreadable, followlinks=True):
        at = os.stat(place)
        if (at.st_dev, at.st_ino) in met:  # a link that leads back
            below.clear()
            continue
        met.add((at.st_dev, at.st_ino))
        inside = os.path.relpath(place, folder)
        for file in files:
            if matched := _NAME.fullmatch(file):
                number = int(matched[1])
                if number in found:
                    first = os.fsdecode(found[number])
                    raise DataError(f"{folder}: {file} is there twice, the first time as {first}; remove one")
                found[number] = os.fsencode(os.path.normpath(os.path.join(inside, file)))
    return found


def _names(numbers: list[int]) -> str:
    return preview([f"ILSVRC2012_val_{i:08d}" for i in numbers])
