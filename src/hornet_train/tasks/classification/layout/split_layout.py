"""List the files of a data set, recording what is wrong instead of raising.

`FolderSource` (`tasks/classification/sources`) selects images by the same rules and raises on a fault.
"""

from __future__ import annotations

import os
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hornet_train.data.sources.listing import check_folder
from hornet_train.data.sources.litter import is_litter
from hornet_train.errors import DataError
from hornet_train.file_names import as_text
from hornet_train.images.formats import EXTENSIONS
from hornet_train.tasks.classification.sources import FlatSource
from hornet_train.tasks.stored_files import ImageFiles

_LABEL_FILES = (".txt", ".csv")


@dataclass
class SplitLayout(ImageFiles):
    """The images of one split, by class, then sorted, and the faults found while listing it.

    Attributes:
        classes: the names of class folders that contain images, sorted; empty for a flat split, whose images
            are the loose ones.
        labels: for each path the position of its class in `classes`; empty for a flat split.
        empty: class folders without an image.
        loose: images directly in `folder`, beside the class folders.
        nested: number of images in subfolders of their class folder.
        ignored: why files were ignored -> how many.
        unlisted: folders that cannot be listed, and why.
        label_files: files that may contain the labels of a flat split.
    """

    classes: tuple[str, ...] = ()
    labels: array[int] = field(default_factory=lambda: array("i"))
    empty: list[str] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)
    nested: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    unlisted: list[str] = field(default_factory=list)
    label_files: list[Path] = field(default_factory=list)

    @property
    def flat(self) -> bool:
        """Whether the split is images without class folders."""
        return not self.classes and bool(self.loose)

    def use_labels_of(self, source: FlatSource) -> None:
        """Take images, labels and classes from a labels file instead of from class folders."""
        self.classes = source.classes
        self.paths = source.files.paths
        self.labels = array("i", source.labels.tolist())
        self.loose = []


def list_split(folder: Path, name: str) -> SplitLayout:
    """List a split.

    Raises:
        DataError: the folder itself cannot be listed.
    """
    split = SplitLayout(name, folder)
    folders, files = _entries(folder)
    for file in files:
        _add_file(file, split, split.loose)
    classes: list[str] = []
    for class_name in folders:
        if is_litter(class_name):
            continue
        images = _images(split, class_name)
        if not images:
            split.empty.append(class_name)
            continue
        for path in images:
            split.paths.append(path)
        split.labels.extend([len(classes)] * len(images))
        classes.append(as_text(class_name))
    split.classes = tuple(classes)
    if split.flat:
        for file in split.loose:
            split.paths.append(os.fsencode(file))
        split.label_files = _label_files(folder)
    return split


def list_root(root: Path, splits: tuple[str, ...]) -> tuple[list[SplitLayout], str]:
    """List the splits in a root folder, and say what the root is.

    Returns:
        Those of `splits` that exist, and "splits". Where none exists, the root itself as one split, and "is a
        split" if its name is one of `splits`, else "no splits".

    Raises:
        DataError: the root does not exist, or contains neither splits nor images.
    """
    check_folder(root, "give the folder that holds train/ and val/")
    present = [name for name in splits if (root / name).is_dir()]
    if present:
        return [list_split(root / name, name) for name in present], "splits"
    name = root.absolute().name
    single = list_split(root, name)
    if not len(single.paths):
        folders = ", ".join(_entries(root)[0][:5]) or "none"
        raise DataError(
            f"{root} holds none of {', '.join(f'{name}/' for name in splits)} and no images in class folders "
            f"(its folders: {folders}); is the archive unpacked? If the splits have other names, set --splits"
        )
    if single.nested == len(single.paths) and name not in splits:
        raise DataError(
            f"{root} holds none of {', '.join(f'{name}/' for name in splits)}, but folders of folders of "
            f"images: are these the splits? --splits {','.join(single.classes[:4])}"
        )
    return [single], "is a split" if name in splits else "no splits"


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """The names of the folders and of the files in a folder, each sorted."""
    try:
        with os.scandir(folder) as entries:
            pairs = sorted((entry.name, entry.is_dir()) for entry in entries)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error
    return [n for n, is_folder in pairs if is_folder], [n for n, is_folder in pairs if not is_folder]


def _images(split: SplitLayout, class_name: str) -> list[bytes]:
    """The images below a class folder, as paths relative to the split's folder, sorted."""

    def add_unlisted(error: OSError) -> None:
        split.unlisted.append(f"{error.filename} ({error.strerror})")

    images: list[bytes] = []
    visited: set[tuple[int, int]] = set()
    top = split.folder / class_name
    for folder, subfolders, files in os.walk(top, onerror=add_unlisted, followlinks=True):
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:
            split.unlisted.append(f"{folder} (already listed, reached by a symbolic link; remove the link)")
            subfolders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        subfolders[:] = sorted(entry for entry in subfolders if not is_litter(entry))
        relative = os.path.relpath(folder, split.folder)
        found_images: list[str] = []
        for file in files:
            _add_file(file, split, found_images)
        if relative != class_name:
            split.nested += len(found_images)
        images += [os.fsencode(os.path.join(relative, file)) for file in found_images]
    return sorted(images)


def _add_file(name: str, split: SplitLayout, images: list[str]) -> None:
    """Append a file to `images` if its name is that of an image, else count it as ignored."""
    if name.startswith("."):
        split.ignored["hidden (names that start with a dot)"] += 1
    elif name.lower().endswith(EXTENSIONS):
        images.append(name)
    else:
        split.ignored[f"named {os.path.splitext(name)[1].lower() or 'without an extension'}"] += 1


def _label_files(folder: Path) -> list[Path]:
    """Text files in or beside a flat split that are named like labels: val.txt, LOC_val_solution.csv, ..."""
    candidates = []
    for place in (folder, folder.parent, *sorted(folder.parent.glob("*devkit*/data"))):
        for name in _entries(place)[1]:
            stem, extension = os.path.splitext(name.lower())
            named_like_labels = (
                any(word in stem for word in ("label", "truth", "solution")) or stem == folder.name
            )
            if extension in _LABEL_FILES and named_like_labels:
                candidates.append(place / name)
    return candidates
