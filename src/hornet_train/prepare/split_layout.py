"""What lies under a data set's root: a listing that tells what is wrong instead of refusing it.

`FolderSource` (`tasks/classification/sources`) takes images by the same rules and refuses what has faults.
"""

from __future__ import annotations

import os
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from hornet_train.data.sources.listing import check_folder
from hornet_train.data.sources.packed import PackedPaths
from hornet_train.data.sources.tree import IMAGE_EXTENSIONS
from hornet_train.errors import DataError
from hornet_train.tasks.classification.sources import FlatSource

_LABEL_FILES = (".txt", ".csv")


@dataclass
class SplitLayout:
    """One split as it lies there.

    Attributes:
        name: `train`, `val` and so on.
        folder: its folder.
        classes: the class folders that hold images, sorted; of a flat split none.
        paths: the images relative to `folder`, by class, then sorted; of a flat split, those lying in it.
        labels: the class of each path, by position; of a flat split none.
        empty: class folders without an image.
        loose: images that lie in `folder` itself, beside the class folders.
        nested: images deeper than their class folder.
        ignored: why files were passed over -> how many.
        unlisted: folders that cannot be listed, and why.
        label_files: files that may tell the labels of a flat split.
    """

    name: str
    folder: Path
    classes: tuple[str, ...] = ()
    paths: PackedPaths = field(default_factory=PackedPaths)
    labels: array[int] = field(default_factory=lambda: array("i"))
    empty: list[str] = field(default_factory=list)
    loose: list[str] = field(default_factory=list)
    nested: int = 0
    ignored: Counter[str] = field(default_factory=Counter)
    unlisted: list[str] = field(default_factory=list)
    label_files: list[Path] = field(default_factory=list)

    @property
    def flat(self) -> bool:
        """Whether it is images without class folders."""
        return not self.classes and bool(self.loose)

    def label_by(self, source: FlatSource) -> None:
        """Take images, labels and classes from a labels file instead of from folders."""
        self.classes = source.classes
        self.paths = PackedPaths(source.paths)
        self.labels = array("i", source.labels)
        self.loose = []

    def locate(self, index: int) -> Path:
        return self.folder / os.fsdecode(self.paths[index])


def list_split(folder: Path, name: str) -> SplitLayout:
    """List a split.

    Raises:
        DataError: the folder itself cannot be listed.
    """
    split = SplitLayout(name, folder)
    folders, files = _entries(folder)
    for file in files:
        _sort_file(file, split, split.loose)
    classes: list[str] = []
    for class_name in folders:
        if class_name.startswith("."):
            continue
        images = _images(split, class_name)
        if not images:
            split.empty.append(class_name)
            continue
        for path in images:
            split.paths.append(path)
        split.labels.extend([len(classes)] * len(images))
        classes.append(class_name)
    split.classes = tuple(classes)
    if split.flat:
        for file in split.loose:
            split.paths.append(os.fsencode(file))
        split.label_files = _label_files(folder)
    return split


def list_root(root: Path, splits: tuple[str, ...]) -> tuple[list[SplitLayout], str]:
    """The splits of a root, and how they lie in it.

    Returns:
        Those of `splits` that there are, and "splits"; or root itself as one split, and "is a split" where it
        has the name of one, "no splits" where it does not.

    Raises:
        DataError: there is no such root, or it holds neither splits nor images.
    """
    check_folder(root, "give the folder that holds train/ and val/")
    there = [name for name in splits if (root / name).is_dir()]
    if there:
        return [list_split(root / name, name) for name in there], "splits"
    name = root.absolute().name
    whole = list_split(root, name)
    if not len(whole.paths):
        folders = ", ".join(_entries(root)[0][:5]) or "none"
        raise DataError(
            f"{root} holds none of {', '.join(f'{name}/' for name in splits)} and no images in class folders "
            f"(folders there: {folders}); is the archive unpacked? Splits of other names: --splits"
        )
    if whole.nested == len(whole.paths) and name not in splits:
        raise DataError(
            f"{root} holds none of {', '.join(f'{name}/' for name in splits)}, but folders of folders of "
            f"images: are these the splits? --splits {','.join(whole.classes[:4])}"
        )
    return [whole], "is a split" if name in splits else "no splits"


def _entries(folder: Path) -> tuple[list[str], list[str]]:
    """The names of folders and of files, sorted."""
    try:
        with os.scandir(folder) as entries:
            pairs = sorted((entry.name, entry.is_dir()) for entry in entries)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error
    return [n for n, is_folder in pairs if is_folder], [n for n, is_folder in pairs if not is_folder]


def _images(split: SplitLayout, class_name: str) -> list[bytes]:
    """The images below a class folder, relative to the split's, sorted."""

    def unlisted(error: OSError) -> None:
        split.unlisted.append(f"{error.filename} ({error.strerror})")

    images: list[bytes] = []
    met: set[tuple[int, int]] = set()
    top = split.folder / class_name
    for place, below, files in os.walk(top, onerror=unlisted, followlinks=True):
        found = os.stat(place)
        if (found.st_dev, found.st_ino) in met:
            split.unlisted.append(f"{place} (there already, by a symbolic link; remove the link)")
            below.clear()
            continue
        met.add((found.st_dev, found.st_ino))
        below[:] = sorted(entry for entry in below if not entry.startswith("."))
        inside = os.path.relpath(place, split.folder)
        taken: list[str] = []
        for file in files:
            _sort_file(file, split, taken)
        if inside != class_name:
            split.nested += len(taken)
        images += [os.fsencode(os.path.join(inside, file)) for file in taken]
    return sorted(images)


def _sort_file(name: str, split: SplitLayout, images: list[str]) -> None:
    if name.startswith("."):
        split.ignored["hidden (names that start with a dot)"] += 1
    elif name.lower().endswith(IMAGE_EXTENSIONS):
        images.append(name)
    else:
        split.ignored[f"named {os.path.splitext(name)[1].lower() or 'without an extension'}"] += 1


def _label_files(folder: Path) -> list[Path]:
    """Text files in or beside a flat split whose names speak of labels: val.txt, LOC_val_solution.csv, ..."""
    found = []
    for place in (folder, folder.parent, *sorted(folder.parent.glob("*devkit*/data"))):
        for name in _entries(place)[1]:
            stem, extension = os.path.splitext(name.lower())
            speaks = any(word in stem for word in ("label", "truth", "solution")) or stem == folder.name
            if extension in _LABEL_FILES and speaks:
                found.append(place / name)
    return found


def some(count: int, noun: str) -> str:
    """`1 image`, `1,281,167 images`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
