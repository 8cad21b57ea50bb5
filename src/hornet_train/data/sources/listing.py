"""The listing of one split of class folders, with all its faults told at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hornet_train.errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp")

_SHOWN = 5  # names a message lists before it only counts


@dataclass(frozen=True)
class Listing:
    """The images of one split.

    Attributes:
        folder: the split's folder.
        classes: class names in label order.
        paths: each image's path relative to `folder`, as the file system's bytes, by class, then sorted.
        labels: the label of each path.
        ignored: files that are not images by their names.
    """

    folder: Path
    classes: tuple[str, ...]
    paths: list[bytes]
    labels: list[int]
    ignored: int


def scan_split(root: Path, split: str, classes: Sequence[str] | None = None) -> Listing:
    """List `root/split/<class>/**`; see `FolderSource` for the layout.

    Raises:
        DataError: every fault found, each with its remedy.
    """
    folder = _find(root, split)
    found = sorted(name for name in _entries(folder, folders=True) if not name.startswith("."))
    names = found if classes is None else list(classes)
    faults: list[str] = []
    if not found:
        loose = sum(name.lower().endswith(EXTENSIONS) for name in _entries(folder, folders=False))
        lying = f" ({loose} images lie in it directly)" if loose else ""
        faults.append(
            f"it has no class folders{lying}; sort the images into one folder a class, or for ImageNet's "
            "flat val folder name its labels: data.val_labels=<file>"
        )
    if unknown := sorted(set(found) - set(names)):
        faults.append(
            f"{_count(unknown, 'class folder')} not among the {len(names)} classes; remove or rename"
        )
    paths: list[bytes] = []
    labels: list[int] = []
    empty: list[str] = []
    ignored = 0
    for label, name in enumerate(names):
        if name not in found:
            continue
        images, others = _images(folder, name, faults)
        ignored += others
        if not images:
            empty.append(name)
        paths += images
        labels += [label] * len(images)
    if empty:
        wanted = ", ".join(extension[1:] for extension in EXTENSIONS)
        faults.append(f"{_count(empty, 'class folder')} without an image ({wanted}); fill or remove")
    if found and not paths:
        faults.append("it has no images at all; is the archive unpacked?")
    if faults:
        told = "\n".join(f"  - {fault}" for fault in faults)
        raise DataError(
            f"{folder}: {faults[0]}" if len(faults) == 1 else f"{folder}: {len(faults)} faults\n{told}"
        )
    return Listing(folder, tuple(names), paths, labels, ignored)


def _find(root: Path, split: str) -> Path:
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise DataError(f"data.root={root} {what}; set data.root= to the folder that holds train/ and val/")
    folder = root / split
    if not folder.is_dir():
        there = sorted(_entries(root, folders=True))
        holds = f"there are: {preview(there)}" if there else "it holds no folders"
        raise DataError(f"data.root={root} has no folder {split}/; {holds}")
    return folder


def _entries(folder: Path, *, folders: bool) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_dir() == folders]
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error


def _images(folder: Path, name: str, faults: list[str]) -> tuple[list[bytes], int]:
    """The images below class folder `name`, sorted, and how many other files lie there."""

    def unreadable(error: OSError) -> None:
        faults.append(f"{error.filename} cannot be listed ({error.strerror}); check its permissions")

    images: list[bytes] = []
    others = 0
    for place, below, files in os.walk(folder / name, onerror=unreadable, followlinks=True):
        below[:] = sorted(entry for entry in below if not entry.startswith("."))
        inside = os.path.relpath(place, folder)
        taken = [file for file in files if not file.startswith(".") and file.lower().endswith(EXTENSIONS)]
        images += [os.fsencode(os.path.join(inside, file)) for file in taken]
        others += len(files) - len(taken)
    return sorted(images), others


def _count(names: Sequence[str], noun: str) -> str:
    return f"{len(names)} {noun}{'s' if len(names) > 1 else ''} ({preview(names)})"


def preview(names: Sequence[str]) -> str:
    """The first few names, and that there are more."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
