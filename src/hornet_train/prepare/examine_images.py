"""Read and decode image files, and collect statistics over those of a split."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from hornet_train.errors import SampleError
from hornet_train.images.decode import decode_with_orientation, read_bytes
from hornet_train.images.formats import FORMATS, format_of
from hornet_train.images.orientation import UPRIGHT
from hornet_train.prepare.watched_workers import BeginItem

SMALL = 32  # pixels; an image with a shorter side than this leaves little to crop from
_NEARLY_BLACK = 16  # of 255
_HISTOGRAM_SIZE = 1 << 16  # bins, one a pixel of side length; the limit of JPEG, too


@dataclass(frozen=True)
class Batch:
    """Files for one task of a worker: their positions in the split, and their paths."""

    indices: tuple[int, ...]
    paths: tuple[str, ...]

    def without(self, item: int) -> Batch:
        """The batch without the file at position `item`."""
        return Batch(
            self.indices[:item] + self.indices[item + 1 :], self.paths[:item] + self.paths[item + 1 :]
        )


@dataclass(frozen=True)
class DecodedImage:
    """A file that decodes.

    Attributes:
        height, width: in pixels.
        digest: the first 64 bits of the file's SHA-256.
        misnamed: where content and extension disagree, such as `PNG called .jpg`; else ''.
        black: whether no pixel is above 15 of 255, as of 12 bits in a file of 16.
        turned: whether its EXIF orientation says that it is to be turned.
    """

    height: int
    width: int
    digest: int
    misnamed: str
    black: bool = False
    turned: bool = False


def examine_batch(batch: Batch, begin_item: BeginItem) -> list[DecodedImage | str]:
    """Read and decode files, in a worker process.

    Returns:
        For each file either what was decoded or, as text, why it cannot be used.
    """
    found: list[DecodedImage | str] = []
    for item, path in enumerate(batch.paths):
        begin_item(item)
        try:
            found.append(examine_image(path))
        except SampleError as error:
            found.append(error.reason)
    return found


def examine_image(path: str) -> DecodedImage:
    """Read and decode one file.

    Raises:
        SampleError: the file cannot be read or decoded.
    """
    data = read_bytes(path, waiting=True)
    pixels, orientation = decode_with_orientation(data, path)
    _, height, width = pixels.shape
    digest = int.from_bytes(hashlib.sha256(data).digest()[:8], "little")
    return DecodedImage(
        height,
        width,
        digest,
        _misnamed(data, path),
        black=int(pixels.max()) < _NEARLY_BLACK,
        turned=orientation != UPRIGHT,
    )


def _misnamed(data: bytes, path: str) -> str:
    """`PNG called .jpg` where a file's content and its extension disagree, else ''."""
    extension, kind = os.path.splitext(path)[1].lower(), format_of(data)
    return f"{kind} called {extension}" if kind is not None and extension not in FORMATS[kind] else ""


@dataclass
class ImageStatistics:
    """Statistics over the files of a split, in 8 bytes of memory a file.

    Attributes:
        samples: number of files.
        decoded: number of files that decode.
        misnamed: `PNG called .jpg` -> number of files.
        small: number of files with a shorter side below `SMALL`.
        black: number of files that are nearly black.
        turned: number of files that their EXIF orientation turns.
    """

    samples: int
    decoded: int = 0
    small: int = 0
    black: int = 0
    turned: int = 0
    misnamed: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._digests = np.zeros(self.samples, dtype=np.uint64)  # 0: damaged, or not yet added
        self._sides = {side: np.zeros(_HISTOGRAM_SIZE, dtype=np.int64) for side in ("height", "width")}
        self._shortest = _HISTOGRAM_SIZE

    def add(self, index: int, image: DecodedImage) -> None:
        """Add the file at position `index` of the split."""
        self.decoded += 1
        self.small += min(image.height, image.width) < SMALL
        self.black += image.black
        self.turned += image.turned
        self._shortest = min(self._shortest, image.height, image.width)
        if image.misnamed:
            self.misnamed[image.misnamed] += 1
        self._digests[index] = image.digest
        for side, pixels in (("height", image.height), ("width", image.width)):
            self._sides[side][min(pixels, _HISTOGRAM_SIZE - 1)] += 1

    def describe_sizes(self) -> str:
        """Median width and height in pixels, the shortest side, and the number of small images, as text."""
        width, height = (_median(self._sides[side]) for side in ("width", "height"))
        return (
            f"median {width}x{height} pixels, the shortest side {self._shortest}, "
            f"{self.small:,} with a side below {SMALL}"
        )

    def duplicates(self, max_pairs: int) -> tuple[int, list[tuple[int, int]]]:
        """Files with the same bytes as an earlier file.

        Files are compared by 64 bits of SHA-256: among 14 million files, the chance that two different ones
        agree is 5 in a million.

        Returns:
            The number of such files, and the first `max_pairs` pairs (index of the earlier file, index of the
            duplicate).
        """
        order = np.argsort(self._digests, kind="stable")
        sorted_digests = self._digests[order]
        repeated = np.flatnonzero((sorted_digests[1:] == sorted_digests[:-1]) & (sorted_digests[1:] != 0))
        firsts = np.searchsorted(sorted_digests, sorted_digests[repeated + 1])
        pairs = sorted(zip(order[firsts].tolist(), order[repeated + 1].tolist(), strict=True))
        return len(repeated), pairs[:max_pairs]


def _median(histogram: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> int:
    """The lower median of a histogram's values."""
    return int(np.searchsorted(np.cumsum(histogram), (histogram.sum() + 1) // 2))
