"""The listing of one split of class folders, with all its faults told at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hornet_train.data.sources.cache import scan_cached
from hornet_train.data.sources.tree import EXTENSIONS, Tree, entries
from hornet_train.errors import DataError

_SHOWN = 5  # names a message lists before it only counts


@dataclass(frozen=True)
class Listing:
    """The images of one split.

    Attributes:
        folder: the split's folder.
        classes: class names in label order.
        tree: the files.
        kept: where the tree's arrays are kept on disk; None for in memory.
    """

    folder: Path
    classes: tuple[str, ...]
    tree: Tree
    kept: Path | None


def scan_split(root: Path, split: str, classes: Sequence[str] | None = None) -> Listing:
    """List `root/split/<class>/**`; see `FolderSource` for the layout.

    Raises:
        DataError: every fault found, each with its remedy.
    """
    folder = _find(root, split)
    try:
        tree, kept = scan_cached(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error
    found, names = tree.classes, tree.classes if classes is None else tuple(classes)
    faults = list(tree.faults)
    if not found:
        loose = sum(name.lower().endswith(EXTENSIONS) for name in _names(folder, folders=False))
        lying = f" ({loose} images lie in it directly)" if loose else ""
        faults.append(
            f"it has no class folders{lying}; sort the images into one folder a class, or for ImageNet's "
            "flat val folder name its labels: data.val_labels=<file>"
        )
    if unknown := sorted(set(found) - set(names)):
        faults.append(
            f"{_count(unknown, 'class folder')} not among the {len(names)} classes; remove or rename"
        )
    wanted = set(names)
    empty = [
        name
        for name, first, end in zip(found, tree.first, tree.first[1:], strict=False)
        if first == end and name in wanted
    ]
    if empty:
        extensions = ", ".join(extension[1:] for extension in EXTENSIONS)
        faults.append(f"{_count(empty, 'class folder')} without an image ({extensions}); fill or remove")
    if found and not len(tree):
        faults.append("it has no images at all; is the archive unpacked?")
    if faults:
        told = "\n".join(f"  - {fault}" for fault in faults)
        raise DataError(
            f"{folder}: {faults[0]}" if len(faults) == 1 else f"{folder}: {len(faults)} faults\n{told}"
        )
    return Listing(folder, names, tree, kept)


def check_folder(folder: Path, remedy: str, key: str = "") -> None:
    """Refuse what is not a folder that can be looked into.

    Args:
        remedy: what to do where it is none.
        key: what it was given by, such as `data.root=`.

    Raises:
        DataError: says what it is, and what to do.
    """
    try:
        os.stat(os.path.join(folder, "."))
    except FileNotFoundError:
        raise DataError(f"{key}{folder} does not exist; {remedy}") from None
    except NotADirectoryError:
        raise DataError(f"{key}{folder} is not a folder; {remedy}") from None
    except OSError as error:
        why = f"cannot be looked into ({error.strerror})"
        raise DataError(f"{key}{folder} {why}; check its permissions") from error


def _find(root: Path, split: str) -> Path:
    check_folder(root, "set data.root= to the folder that holds train/ and val/", "data.root=")
    folder = root / split
    if not folder.is_dir():
        there = sorted(_names(root, folders=True))
        holds = f"there are: {preview(there)}" if there else "it holds no folders"
        raise DataError(f"data.root={root} has no folder {split}/; {holds}")
    return folder


def _names(folder: Path, *, folders: bool) -> list[str]:
    try:
        return entries(folder, folders=folders)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error


def _count(names: Sequence[str], noun: str) -> str:
    return f"{len(names)} {noun}{'s' if len(names) > 1 else ''} ({preview(names)})"


def preview(names: Sequence[str]) -> str:
    """The first few names, and that there are more."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
