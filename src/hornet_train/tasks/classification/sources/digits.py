"""scikit-learn's handwritten digits."""

from __future__ import annotations

import numpy as np
import torch

from hornet_train.data.sources.source import Fields, sha256_of
from hornet_train.errors import DataError
from hornet_train.tasks.classification.sources.labelled import IMAGE, LABEL, Split


class DigitsSource:
    """scikit-learn's 1,797 handwritten digits, 8x8, in a fixed stratified split: 1,437 train, 360 val.

    The split is the same for every seed and every release of numpy: each class gives its share of the 360
    (largest remainder), evenly spaced in the file's order, so that every writer is in both parts.
    """

    classes: tuple[str, ...] = tuple("0123456789")
    absent: tuple[str, ...] = ()

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

    def read(self, index: int) -> Fields:
        image = torch.from_numpy(self._images[index]).expand(3, 8, 8).contiguous()
        return {IMAGE: image, LABEL: int(self._labels[index])}

    def locate(self, index: int) -> str:
        return f"scikit-learn's digit {int(self._members[index])}"

    @property
    def fingerprint(self) -> str:
        return sha256_of(self._members, self._labels)


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
