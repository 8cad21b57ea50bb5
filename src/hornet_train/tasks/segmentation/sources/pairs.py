"""Pictures with their masks in files: found below two folders and matched by their names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hornet_train.data.sources.files import FileList
from hornet_train.data.sources.listing import check_folder, preview, with_count
from hornet_train.data.sources.litter import is_litter
from hornet_train.data.sources.source import Fields, Source, sha256_of
from hornet_train.errors import DataError
from hornet_train.images.formats import EXTENSIONS
from hornet_train.tasks.segmentation.mask_coding import MaskCoding
from hornet_train.tasks.segmentation.samples import CODING, IMAGE, MASK

_ENDINGS = ("_mask", "-mask", "_label", "_labels", "_seg", "_segmentation", "_gt", "_annotation")


@dataclass(frozen=True)
class PairFolders:
    """Where the pictures and the masks of a split lie.

    Attributes:
        images, masks: the folders; files are looked for in folders below them, too.
        image_ending, mask_ending: of the names of either, before the extension, where they differ.
    """

    images: Path
    masks: Path
    image_ending: str = ""
    mask_ending: str = ""


class Pictures(Source, Protocol):
    """Pictures with masks, with random access."""

    @property
    def folders(self) -> Sequence[Path]:
        """Where its files lie."""

    def name(self, index: int) -> str:
        """What files about a picture may be called: a relative path without an extension, its own alone."""


class PairedFiles:
    """Pictures with masks, each in a file of its own; see `Source`.

    Attributes:
        notes: one sentence for each thing that a user should know of.
    """

    def __init__(
        self, images: FileList, masks: FileList, notes: Sequence[str] = (), coding: MaskCoding | None = None
    ) -> None:
        """Take files in pairs.

        Args:
            images, masks: as many, in the same order.
            coding: what the values of the masks mean; None where that is not known yet.
        """
        self._images, self._masks, self.notes, self._coding = images, masks, tuple(notes), coding

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> Fields:
        return {IMAGE: self._images.read(index), MASK: self._masks.read(index), CODING: self._coding}

    def locate(self, index: int) -> str:
        return self._images.locate(index)

    @property
    def fingerprint(self) -> str:
        """Of the names of pictures and masks and the meaning of the masks' values."""
        meaning = repr(self._coding and self._coding.meaning).encode()
        return sha256_of(b"\0".join(self._images), b"\1", b"\0".join(self._masks), b"\1", meaning)

    def name(self, index: int) -> str:
        """See `Pictures`: the picture's path within the data set."""
        return os.path.splitext(os.fsdecode(self._images.paths[index]))[0]

    def part(self, places: Sequence[int]) -> PairedFiles:
        """Some of these samples."""
        images, masks = (
            FileList(files.folder, [files.paths[place] for place in places])
            for files in (self._images, self._masks)
        )
        return PairedFiles(images, masks, self.notes, self._coding)

    def noted(self, note: str) -> PairedFiles:
        """The same with one thing more to be said."""
        return PairedFiles(self._images, self._masks, (*self.notes, note), self._coding)

    def coded(self, coding: MaskCoding) -> PairedFiles:
        """The same with a meaning of the masks' values: another meaning makes other samples."""
        return PairedFiles(self._images, self._masks, self.notes, coding)

    @property
    def folders(self) -> Sequence[Path]:
        """See `Pictures`."""
        return self._images.folder, self._masks.folder

    @property
    def folder(self) -> Path:
        """Of the pictures."""
        return self._images.folder

    def paths(self) -> list[bytes]:
        """Of the pictures, within their folder."""
        return list(self._images)

    def key(self, index: int) -> bytes:
        """What a picture is called wherever the data set lies: its path within it."""
        return self._images.paths[index]


@dataclass(frozen=True)
class Paired:
    """Files by pairs.

    Attributes:
        images, masks: paths within their folders, as many, in the same order.
        lonely_images, lonely_masks: those without a partner.
        clashes: sentences about names that several files share.
    """

    images: list[bytes]
    masks: list[bytes]
    lonely_images: list[str]
    lonely_masks: list[str]
    clashes: list[str]


def match(folders: PairFolders) -> Paired:
    """Find the pictures and masks below two folders, and which belong together.

    A mask has its picture's path and name, but for the extension and the endings that are usual, such as
    `_mask`.

    Raises:
        DataError: a folder is not there, or holds no picture.
    """
    images = _by_name(folders.images, folders.image_ending, "the folder with the pictures")
    masks = _by_name(folders.masks, folders.mask_ending, "the folder with the masks")
    if not masks.keys() & images.keys():
        masks = _without_endings(masks)
    both = sorted(images.keys() & masks.keys())
    clashes = [
        f"{names[0]} and {names[1]} are both called {key}: rename one"
        for found in (images, masks)
        for key, names in found.items()
        if len(names) > 1
    ]
    return Paired(
        [os.fsencode(images[key][0]) for key in both],
        [os.fsencode(masks[key][0]) for key in both],
        sorted(images[key][0] for key in images.keys() - masks.keys()),
        sorted(masks[key][0] for key in masks.keys() - images.keys()),
        clashes,
    )


def open_pairs(folders: PairFolders) -> PairedFiles:
    """The pictures of a split with their masks, sorted by name.

    Masks without a picture are left out, and said.

    Raises:
        DataError: a folder is not there or empty, pictures have no mask, or names are not clear.
    """
    found = match(folders)
    if faults := pairing_faults(found, folders):
        raise DataError("\n".join(faults))
    notes = []
    if found.lonely_masks:
        notes.append(
            f"{with_count(len(found.lonely_masks), 'mask')} without a picture in {folders.images}: "
            f"{preview(found.lonely_masks)}"
        )
    return PairedFiles(FileList(folders.images, found.images), FileList(folders.masks, found.masks), notes)


def pairing_faults(found: Paired, folders: PairFolders) -> list[str]:
    """A sentence for each reason why files cannot be taken as pairs."""
    faults = list(found.clashes)
    if not found.images:
        faults.append(
            f"no picture of {folders.images} ({preview(found.lonely_images)}) has a mask of the same name in "
            f"{folders.masks} ({preview(found.lonely_masks)})"
        )
    elif found.lonely_images:
        faults.append(
            f"{with_count(len(found.lonely_images), 'picture')} of {folders.images} without a mask in "
            f"{folders.masks}: {preview(found.lonely_images)}; add the masks, or remove the pictures"
        )
    return faults


def files_below(folder: Path, what: str) -> list[str]:
    """The image files below a folder by their paths in it, sorted; litter and hidden files are left out.

    Raises:
        DataError: the folder is not there, or something in it cannot be listed.
    """
    check_folder(folder, f"give {what}")

    def unreadable(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be listed ({error.strerror}); check its permissions")

    found: list[str] = []
    seen: set[tuple[int, int]] = set()
    for place, below, files in os.walk(folder, onerror=unreadable, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:  # reached again by a symbolic link
            below.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        below[:] = sorted(name for name in below if not is_litter(name))
        inside = os.path.relpath(place, folder)
        found += [
            name if inside == "." else os.path.join(inside, name)
            for name in files
            if name.lower().endswith(EXTENSIONS) and not is_litter(name)
        ]
    return sorted(found)


def _by_name(folder: Path, ending: str, what: str) -> dict[str, list[str]]:
    """Name without extension and ending -> paths of the files; files of another ending are left out."""
    found: dict[str, list[str]] = {}
    for path in files_below(folder, what):
        name = os.path.splitext(path)[0]
        if name.endswith(ending):
            found.setdefault(name[: len(name) - len(ending)], []).append(path)
    if not found:
        named = f" whose names end in {ending}" if ending else ""
        raise DataError(f"{folder} holds no image files{named}; give {what}")
    return found


def _without_endings(masks: dict[str, list[str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, paths in masks.items():
        bare = next((name[: -len(one)] for one in _ENDINGS if name.lower().endswith(one)), name)
        found.setdefault(bare, []).extend(paths)
    return found
