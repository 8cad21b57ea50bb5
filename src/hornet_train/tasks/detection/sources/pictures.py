"""Pictures with their objects, for workers: see `Source`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from hornet_train.data.sources.files import FileList
from hornet_train.data.sources.source import Fields, Source, sha256_of
from hornet_train.tasks.detection.objects import ObjectTable
from hornet_train.tasks.detection.samples import IMAGE, OBJECTS, SIZE
from hornet_train.tasks.detection.sources.annotated import Annotated

Sizes = np.ndarray[Any, np.dtype[np.int32]]


class Pictures(Source, Protocol):
    """Pictures with objects, with random access.

    Attributes:
        objects: of all pictures.
        sizes: (height, width) of each as annotated, int32 (P, 2); 0 where that is not known.
        numbers: of the pictures, as results name them, int64 (P,).
        notes: one sentence for each thing that a user should know of.
    """

    objects: ObjectTable
    sizes: Sizes
    numbers: np.ndarray[Any, np.dtype[np.int64]]
    notes: tuple[str, ...]

    @property
    def folders(self) -> Sequence[Path]:
        """Where its files lie."""

    def name(self, index: int) -> str:
        """What files about a picture may be called: a relative path without an extension, its own alone."""

    def part(self, places: Sequence[int]) -> Pictures:
        """Some of these samples."""

    def relabelled(self, places: Sequence[int]) -> Pictures:
        """The same with other labels: label k becomes `places[k]`."""


class AnnotatedFiles:
    """Pictures in files of their own; see `Pictures`."""

    def __init__(
        self, files: FileList, objects: ObjectTable, sizes: Sizes, numbers: Any, notes: Sequence[str]
    ) -> None:
        """Take what was read.

        Args:
            files: of the pictures.
            objects, sizes, numbers, notes: see `Pictures`.
        """
        self._files, self.objects, self.sizes, self.notes = files, objects, sizes, tuple(notes)
        self.numbers = np.asarray(numbers, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: int) -> Fields:
        height, width = self.sizes[index].tolist()
        return {IMAGE: self._files.read(index), OBJECTS: self.objects.of(index), SIZE: (height, width)}

    def locate(self, index: int) -> str:
        return self._files.locate(index)

    @property
    def fingerprint(self) -> str:
        """Of the names of pictures, and of all that is annotated."""
        return sha256_of(b"\0".join(self._files), b"\1", self.objects.digest(), self.sizes, self.numbers)

    def name(self, index: int) -> str:
        """See `Pictures`: the picture's path within the data set, with the extension where several differ by
        it alone."""
        path = os.fsdecode(self._files.paths[index])
        stem = os.path.splitext(path)[0]
        return stem if self._stems[stem] == 1 else path

    @cached_property
    def _stems(self) -> Counter[str]:
        return Counter(os.path.splitext(os.fsdecode(path))[0] for path in self._files)

    @property
    def folders(self) -> Sequence[Path]:
        """See `Pictures`."""
        return (self._files.folder,)

    def paths(self) -> list[bytes]:
        """Of the pictures, within their folder."""
        return list(self._files)

    def part(self, places: Sequence[int]) -> AnnotatedFiles:
        """See `Pictures`."""
        files = FileList(self._files.folder, [self._files.paths[place] for place in places])
        chosen = np.asarray(places, dtype=np.int64)
        return AnnotatedFiles(
            files, self.objects.part(chosen), self.sizes[chosen], self.numbers[chosen], self.notes
        )

    def relabelled(self, places: Sequence[int]) -> AnnotatedFiles:
        """See `Pictures`."""
        objects = self.objects.relabelled(places)
        return AnnotatedFiles(self._files, objects, self.sizes, self.numbers, self.notes)


def opened(found: Annotated, folder: Path, paths: Sequence[bytes]) -> AnnotatedFiles:
    """The pictures that a file describes.

    Args:
        found: what was read.
        folder, paths: of the pictures.
    """
    sizes = np.array(found.sizes, dtype=np.int32).reshape(-1, 2)
    return AnnotatedFiles(FileList(folder, paths), found.objects, sizes, found.numbers, found.notes())
