"""Where samples come from: what a data source is, class folders, and two sources that need no files.

A source is random access: `read(index)` is a function of the index alone, so any worker can read any sample
in any order. Sources hold plain numbers and byte arrays, so that they pickle to worker processes quickly and
are shared after a fork without being copied.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from hornet_train.data.decode import read_image
from hornet_train.data.folders import preview, scan_split
from hornet_train.errors import DataError

Split = Literal["train", "val"]

_GOLDEN = (math.sqrt(5) - 1) / 2


class Source(Protocol):
    """A finite, random-access set of labelled images."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""

    def __len__(self) -> int:
        """How many samples there are."""

    def read(self, index: int) -> tuple[Tensor, int]:
        """Sample `index`, 0 <= index < len: (uint8 (3, H, W) RGB, label).

        Raises:
            DataError: it cannot be read or decoded; the message names it.
        """

    def locate(self, index: int) -> str:
        """Where sample `index` lies, for messages: a path or a description."""

    @property
    def fingerprint(self) -> str:
        """A SHA-256 of which samples there are, in what order, under which labels; not of their pixels."""


class FolderSource:
    """Images in class folders: `root/<split>/<class>/**/<name>.{jpg,jpeg,png,webp}`, torchvision's layout.

    Labels are the positions of the class names in sorted order, or in `classes` where given. Names are taken
    in sorted order; those that start with a dot are passed over (`._x.jpg`, `.ipynb_checkpoints`).

    Attributes:
        classes: class names in label order.
        ignored: files inside class folders that were not taken because their names are not those of images.
    """

    def __init__(
        self, root: str | os.PathLike[str], split: str, classes: Sequence[str] | None = None
    ) -> None:
        """List the images.

        Args:
            root: the folder that holds `train` and `val` (`data.root`).
            split: the name of the folder in it.
            classes: the class names in label order, as of the training split. A class without a folder then
                has no samples here; a folder that is not in `classes` is a fault.

        Raises:
            DataError: no such root or split, folders without images, or classes not in `classes`: all at
                once.
        """
        listing = scan_split(Path(root).expanduser(), split, classes)
        self.classes = listing.classes
        self.ignored = listing.ignored
        self._folder = os.fsencode(listing.folder)
        # Paths as one block of bytes: a list of 1.28 million str is copied page by page into every worker
        # as reference counts change, and takes seconds to pickle.
        self._names = np.frombuffer(b"".join(listing.paths), dtype=np.uint8)
        self._ends = np.cumsum([len(path) for path in listing.paths], dtype=np.int64)
        self._labels = np.asarray(listing.labels, dtype=np.int32)

    def __len__(self) -> int:
        return len(self._ends)

    def read(self, index: int) -> tuple[Tensor, int]:
        return read_image(self.locate(index)), int(self._labels[index])

    def locate(self, index: int) -> str:
        start = int(self._ends[index - 1]) if index else 0
        name = self._names[start : int(self._ends[index])].tobytes()
        return os.fsdecode(os.path.join(self._folder, name))

    @property
    def fingerprint(self) -> str:
        return _sha256(self._names, self._ends, self._labels, repr(self.classes).encode())


class DigitsSource:
    """scikit-learn's 1,797 handwritten digits, 8x8, in a fixed stratified split: 1,437 train, 360 val.

    The split is the same for every seed and every release of numpy: each class gives its share of the 360
    (largest remainder), evenly spaced in the file's order, so that every writer is in both parts.
    """

    classes: tuple[str, ...] = tuple("0123456789")

    def __init__(self, split: Split) -> None:
        """Load them.

        Args:
            split: "train" or "val".

        Raises:
            DataError: another split.
        """
        if split not in ("train", "val"):
            raise DataError(f"digits have no split {split!r}; it is one of: train, val")
        from sklearn.datasets import load_digits  # slow to import

        images, labels = load_digits(return_X_y=True)  # (1797, 64) of 0..16, (1797,)
        members = np.flatnonzero(_held_out(labels, 360) == (split == "val"))
        self._images = np.rint(images[members] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
        self._labels = labels[members].astype(np.int32)
        self._members = members.astype(np.int32)

    def __len__(self) -> int:
        return len(self._labels)

    def read(self, index: int) -> tuple[Tensor, int]:
        image = torch.from_numpy(self._images[index]).expand(3, 8, 8).contiguous()
        return image, int(self._labels[index])

    def locate(self, index: int) -> str:
        return f"scikit-learn's digit {int(self._members[index])}"

    @property
    def fingerprint(self) -> str:
        return _sha256(self._members, self._labels)


class SyntheticSource:
    """Coloured gratings made on the fly; direction, frequency and colour tell the class.

    Sample i is a function of (seed, i) and has label i mod `num_classes`; phase and noise vary. For smoke
    tests and for measuring a loop without a disk. A validation split is the same source with another seed.
    """

    def __init__(self, count: int, image_size: int, num_classes: int, seed: int = 0) -> None:
        """Set up.

        Args:
            count: samples, at least 1.
            image_size: side in pixels, at least 1.
            num_classes: at least 1.
            seed: at least 0.

        Raises:
            ValueError: a number below its bound.
        """
        if min(count, image_size, num_classes) < 1 or seed < 0:
            raise ValueError(
                f"a synthetic source needs count, image_size and num_classes >= 1 and seed >= 0, "
                f"not {count}, {image_size}, {num_classes} and {seed}"
            )
        self.classes = tuple(f"class_{label:04d}" for label in range(num_classes))
        self._count = count
        self._size = image_size
        self._seed = seed

    def __len__(self) -> int:
        return self._count

    def read(self, index: int) -> tuple[Tensor, int]:
        label = index % len(self.classes)
        rng = np.random.default_rng((self._seed, index))
        turn = label * _GOLDEN % 1.0  # neighbours in label are far apart in angle and hue
        cycles = 2 + label % 3
        at = np.arange(self._size, dtype=np.float32) * np.float32(2 * math.pi * cycles / self._size)
        across = at * np.float32(math.cos(math.pi * turn)) + np.float32(rng.uniform(0, 2 * math.pi))
        down = at * np.float32(math.sin(math.pi * turn))
        # sin(across + down), by the addition theorem: sines of two lines instead of a plane
        wave = np.outer(np.cos(down), np.sin(across)) + np.outer(np.sin(down), np.cos(across))
        hue = np.cos(2 * np.pi * (turn + np.arange(3) / 3)).astype(np.float32)[:, None, None]
        noise = rng.integers(-24, 25, size=(3, self._size, self._size), dtype=np.int16)
        pixels = 128 + 40 * hue + 56 * hue * wave + noise  # within 8..248
        return torch.from_numpy(pixels.astype(np.uint8)), label

    def locate(self, index: int) -> str:
        return f"synthetic sample {index} of seed {self._seed}"

    @property
    def fingerprint(self) -> str:
        return _sha256(repr((self._count, self._size, len(self.classes), self._seed)).encode())


def check_same_classes(train: Sequence[str], val: Sequence[str]) -> None:
    """Refuse splits whose labels would not mean the same classes.

    Raises:
        DataError: names the classes that only one of the two has.
    """
    faults = []
    if unknown := sorted(set(val) - set(train)):
        faults.append(f"{len(unknown)} in val but not in train ({preview(unknown)})")
    if missing := sorted(set(train) - set(val)):
        faults.append(f"{len(missing)} in train but not in val ({preview(missing)})")
    if not faults and tuple(train) != tuple(val):
        faults.append("the same classes in another order")
    if faults:
        raise DataError(
            f"the classes of train ({len(train)}) and val ({len(val)}) differ: {'; '.join(faults)}; "
            "both splits need the same class folders"
        )


def check_wnids(classes: Sequence[str]) -> None:
    """Refuse classes that are not ImageNet-1K's 1,000 WordNet ids, sorted, as published weights have them.

    Raises:
        DataError: how many are missing or unexpected, and the first few.
    """
    from timm.data import ImageNetInfo  # type: ignore[import-untyped,unused-ignore]  # slow to import

    wnids: list[str] = ImageNetInfo("imagenet-1k").label_names()
    faults = []
    if missing := sorted(set(wnids) - set(classes)):
        faults.append(f"{len(missing)} missing ({preview(missing)})")
    if unexpected := sorted(set(classes) - set(wnids)):
        faults.append(f"{len(unexpected)} unexpected ({preview(unexpected)})")
    if not faults and list(classes) != wnids:
        faults.append("the right names, but repeated or not in sorted order")
    if faults:
        raise DataError(
            f"{len(classes)} classes are not ImageNet-1K's 1,000: {'; '.join(faults)}; "
            "name the class folders by WordNet id (n01440764, ...) or choose another data set"
        )


def _sha256(*parts: np.ndarray[Any, Any] | bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.tobytes())
    return digest.hexdigest()


def _held_out(
    labels: np.ndarray[tuple[int, ...], np.dtype[np.int64]], count: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """A mask of exactly `count` samples: shares by largest remainder, evenly spaced within each class."""
    sizes = np.bincount(labels)
    shares = sizes * count // len(labels)
    remainders = sizes * count % len(labels)
    shares[np.argsort(-remainders, kind="stable")[: count - shares.sum()]] += 1
    mask = np.zeros(len(labels), dtype=np.bool_)
    for label, (size, share) in enumerate(zip(sizes, shares, strict=True)):
        rank = np.arange(size)
        mask[np.flatnonzero(labels == label)] = (rank + 1) * share // size > rank * share // size
    return mask
