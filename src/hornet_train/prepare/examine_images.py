"""One image file examined, and what many of them come to."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from hornet_train.errors import SampleError
from hornet_train.images.decode import decode, read_bytes
from hornet_train.prepare.watched_workers import Mark

SMALL = 32  # pixels; a shorter side below it gives little to crop from
_MOST_PIXELS = 1 << 16  # histograms end here; JPEG does too
_STARTS = (
    (b"\xff\xd8\xff", "JPEG", (".jpg", ".jpeg")),
    (b"\x89PNG\r\n\x1a\n", "PNG", (".png",)),
    (b"GIF8", "GIF", (".gif",)),
    (b"BM", "BMP", (".bmp",)),
    (b"II*\x00", "TIFF", (".tif", ".tiff")),
    (b"MM\x00*", "TIFF", (".tif", ".tiff")),
)


@dataclass(frozen=True)
class Batch:
    """Files for one worker: positions in the split, and paths."""

    indices: tuple[int, ...]
    paths: tuple[str, ...]

    def without(self, item: int) -> Batch:
        return Batch(
            self.indices[:item] + self.indices[item + 1 :], self.paths[:item] + self.paths[item + 1 :]
        )


@dataclass(frozen=True)
class Good:
    """A file that decodes: height, width in pixels; 64 bits of its SHA-256; `PNG called .jpg`, or ''."""

    height: int
    width: int
    digest: int
    misnamed: str


def examine(batch: Batch, mark: Mark) -> list[Good | str]:
    """Read and decode files, in a worker process.

    Returns:
        For each file what it is, or what is wrong with it.
    """
    found: list[Good | str] = []
    for item, path in enumerate(batch.paths):
        mark(item)
        try:
            found.append(examine_file(path))
        except SampleError as error:
            found.append(error.reason)
    return found


def examine_file(path: str) -> Good:
    """Read and decode one file.

    Raises:
        SampleError: it cannot be read or decoded.
    """
    data = read_bytes(path, waiting=True)
    _, height, width = decode(data, path).shape
    digest = int.from_bytes(hashlib.sha256(data).digest()[:8], "little")
    return Good(height, width, digest, _misnamed(data, path))


def _misnamed(data: bytes, path: str) -> str:
    """What a file is and what it is called, where the two differ."""
    extension = os.path.splitext(path)[1].lower()
    kinds = [(kind, names) for start, kind, names in _STARTS if data.startswith(start)]
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kinds = [("WebP", (".webp",))]
    return "".join(f"{kind} called {extension}" for kind, names in kinds if extension not in names)


@dataclass
class Tally:
    """What the files of a split come to, in memory that grows by 8 bytes a file.

    Attributes:
        samples: how many files there are.
        good: how many decode.
        misnamed: `PNG called .jpg` -> how many.
        small: how many have a shorter side below `SMALL`.
    """

    samples: int
    good: int = 0
    small: int = 0
    misnamed: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._digests = np.zeros(self.samples, dtype=np.uint64)  # 0: damaged, or not yet seen
        self._sides = {side: np.zeros(_MOST_PIXELS, dtype=np.int64) for side in ("height", "width")}
        self._shortest = _MOST_PIXELS

    def add(self, index: int, good: Good) -> None:
        self.good += 1
        self.small += min(good.height, good.width) < SMALL
        self._shortest = min(self._shortest, good.height, good.width)
        if good.misnamed:
            self.misnamed[good.misnamed] += 1
        self._digests[index] = good.digest
        for side, pixels in (("height", good.height), ("width", good.width)):
            self._sides[side][min(pixels, _MOST_PIXELS - 1)] += 1

    def sizes(self) -> str:
        """Median width and height, the shortest side and how many are small; in pixels."""
        width, height = (_median(self._sides[side]) for side in ("width", "height"))
        return (
            f"median {width}x{height} pixels, the shortest side {self._shortest}, "
            f"{self.small:,} with a side below {SMALL}"
        )

    def duplicates(self, most: int) -> tuple[int, list[tuple[int, int]]]:
        """Files whose bytes another one has: how many more there are than there need be, and the first pairs.

        By 64 bits of SHA-256: of 14 million files, two that differ have the same with a chance of 5 in a
        million.
        """
        order = np.argsort(self._digests, kind="stable")
        ranked = self._digests[order]
        again = np.flatnonzero((ranked[1:] == ranked[:-1]) & (ranked[1:] != 0))
        firsts = np.searchsorted(ranked, ranked[again + 1])
        pairs = sorted(zip(order[firsts].tolist(), order[again + 1].tolist(), strict=True))
        return len(again), pairs[:most]


def _median(histogram: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> int:
    """The lower median of a histogram's values."""
    return int(np.searchsorted(np.cumsum(histogram), (histogram.sum() + 1) // 2))
