"""Look at masks before they are trained on: what is in them, and whether they fit their pictures."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from hornet_train.data.sources.source import Encoded, Source
from hornet_train.errors import SampleError
from hornet_train.images.damaged import DAMAGED_FILE_ERRORS
from hornet_train.images.formats import FORMATS
from hornet_train.images.orientation import orientation_of, upright_size
from hornet_train.tasks.segmentation.mask_coding import MaskCoding
from hornet_train.tasks.segmentation.mask_files import read_mask
from hornet_train.tasks.segmentation.metrics import IGNORED
from hornet_train.tasks.segmentation.samples import CODING, IMAGE, MASK, sizes_disagree

_THREADS = min(16, os.cpu_count() or 1)  # Pillow decodes without Python's lock


@dataclass
class MaskScan:
    """What some of the masks of a data set hold.

    Attributes:
        looked_at: how many.
        pixels: of each class, (K,); ignored: of none.
        sizes: (height, width) of each mask -> a sample of that size.
        faults: those that cannot be used, in order.
        as_stored: pictures with an EXIF orientation that is not taken, as their masks fit without it.
    """

    looked_at: int
    pixels: np.ndarray
    ignored: int = 0
    sizes: dict[tuple[int, int], int] = field(default_factory=dict)
    faults: list[SampleError] = field(default_factory=list)
    as_stored: int = 0

    def shares(self) -> np.ndarray:
        """Of each class in the labelled pixels, 0..1, (K,)."""
        total = self.pixels.sum()
        found: np.ndarray = self.pixels / max(1, total)
        return found


def scan(source: Source, classes: int, indices: Iterable[int]) -> MaskScan:
    """Decode some masks and compare their sizes with those in their pictures' headers.

    Args:
        source: its fields have the coding of the masks.
        classes: how many there are.
        indices: of the samples to look at.
    """
    chosen = list(indices)
    found = MaskScan(len(chosen), np.zeros(classes, dtype=np.int64))
    with ThreadPoolExecutor(_THREADS) as pool:
        for index, one in zip(chosen, pool.map(lambda i: _look(source, i), chosen), strict=True):
            if isinstance(one, SampleError):
                found.faults.append(one)
                continue
            counts, size, as_stored = one
            found.pixels += counts[:classes]
            found.ignored += int(counts[IGNORED])
            found.sizes.setdefault(size, index)
            found.as_stored += as_stored
    return found


def evenly(samples: int, most: int) -> list[int]:
    """At most so many indices out of all, evenly spaced."""
    return (
        sorted({place * samples // most for place in range(most)}) if samples > most else list(range(samples))
    )


@dataclass
class StoredValues:
    """What masks hold before anything says what it means.

    Attributes:
        examples: stored value -> the first mask that has it.
        faults: of the masks that cannot be read, or are in colours.
    """

    examples: dict[int, str] = field(default_factory=dict)
    faults: list[SampleError] = field(default_factory=list)


def stored_values(source: Source, indices: Iterable[int]) -> StoredValues:
    """The values of grey and palette masks."""

    def values(index: int) -> tuple[str, list[int]] | SampleError:
        try:
            mask = source.read(index)[MASK]
            if not isinstance(mask, Encoded):
                return source.locate(index), np.unique(mask.numpy()).tolist()
            stored = read_mask(mask.data, mask.where, in_colour=False)
            return mask.where, np.flatnonzero(np.bincount(stored.reshape(-1), minlength=256)).tolist()
        except SampleError as error:
            return error

    found = StoredValues()
    with ThreadPoolExecutor(_THREADS) as pool:
        for one in pool.map(values, indices):
            if isinstance(one, SampleError):
                found.faults.append(one)
                continue
            for value in one[1]:
                found.examples.setdefault(value, one[0])
    return found


def _look(source: Source, index: int) -> tuple[np.ndarray, tuple[int, int], bool] | SampleError:
    """Pixels by class, (256,), the mask's size, and whether an orientation is not taken; or what is wrong."""
    as_stored = False
    try:
        fields = source.read(index)
        stored, mask = fields[IMAGE], fields[MASK]
        coding: MaskCoding = fields[CODING]
        where = mask.where if isinstance(mask, Encoded) else source.locate(index)
        mask_HW = coding.decode(mask.data, where) if isinstance(mask, Encoded) else coding.classes_of(mask)
        size = (int(mask_HW.shape[0]), int(mask_HW.shape[1]))
        if isinstance(stored, Encoded):
            picture, orientation = _header(stored)
            as_stored = upright_size(picture, orientation) != size
            if as_stored and picture != size:
                return sizes_disagree(where, size, stored.where, picture)
        return np.bincount(mask_HW.numpy().reshape(-1), minlength=256), size, as_stored
    except SampleError as error:
        return error


def _header(stored: Encoded) -> tuple[tuple[int, int], int]:
    """(height, width) of a picture, and its EXIF orientation."""
    try:
        with Image.open(io.BytesIO(stored.data), formats=tuple(FORMATS)) as image:
            return (image.height, image.width), orientation_of(image)
    except DAMAGED_FILE_ERRORS as error:
        raise SampleError(stored.where, f"cannot be decoded as an image ({error})") from error
