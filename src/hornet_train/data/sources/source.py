"""What a data source is.

A source is random access: `read(index)` is a function of the index alone, so any worker can read any sample
in any order. Sources hold plain numbers and byte arrays, so that they pickle to worker processes quickly and
are shared after a fork without being copied.
"""

from __future__ import annotations

import hashlib
from typing import Any, Literal, Protocol

import numpy as np
from torch import Tensor

Split = Literal["train", "val"]
TorchvisionName = Literal["cifar10", "cifar100", "mnist", "fashion_mnist"]


class Source(Protocol):
    """A finite, random-access set of labelled images."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""

    def __len__(self) -> int:
        """How many samples there are."""

    def read(self, index: int) -> tuple[Tensor, int | Tensor]:
        """Sample `index`, 0 <= index < len: (uint8 (3, H, W) RGB, label).

        A label is an int; in sets for evaluation only it may be int64 (K,), any of which is right, padded
        with -1.

        Raises:
            SampleError: it cannot be read or decoded; the message names it.
        """

    def locate(self, index: int) -> str:
        """Where sample `index` lies, for messages: a path or a description."""

    @property
    def fingerprint(self) -> str:
        """A SHA-256 of which samples there are, in what order, under which labels; not of their pixels."""


def sha256_of(*parts: np.ndarray[Any, Any] | bytes) -> str:
    """The hex digest of arrays' and strings' bytes, one after the other."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.tobytes())
    return digest.hexdigest()
