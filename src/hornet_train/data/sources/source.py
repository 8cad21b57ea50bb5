"""The protocols of storage: samples as named fields, which are not interpreted here.

A source is random access: `read(index)` is a function of the index alone, so any worker can read any sample
in any order. Shards are read from front to back. Both hold plain numbers and byte arrays, so that they pickle
to worker processes quickly and are shared after a fork without being copied.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np


class Encoded(NamedTuple):
    """A file's content as it is stored, not yet decoded, and where it lies, for messages."""

    data: bytes
    where: str


Fields = dict[str, Any]
"""A sample as it is stored, by the names that whoever opened the storage chose: `Encoded` for a file's bytes,
a uint8 tensor for pixels that need no decoding, numbers, text."""


class Source(Protocol):
    """A finite set of samples with random access."""

    def __len__(self) -> int:
        """How many samples there are."""

    def read(self, index: int) -> Fields:
        """Sample `index`, 0 <= index < len.

        Raises:
            SampleError: it cannot be read; the message names it.
        """

    def locate(self, index: int) -> str:
        """Where sample `index` lies, for messages: a path or a description."""

    @property
    def fingerprint(self) -> str:
        """A SHA-256 of which samples there are, in what order, under which labels; not of their pixels."""


class Shards(ABC):
    """A set of samples in pieces, each of which is read from front to back.

    Attributes:
        lengths: samples of each shard, known without reading them.
        fingerprint: a SHA-256 of which shards these are: names, numbers of samples, class names, and what
            else can be had without reading them (sizes of tables; sizes and labels of the images in near
            tars).
    """

    lengths: tuple[int, ...]
    fingerprint: str

    @abstractmethod
    def read(self, shard: int, start: int) -> Iterator[Fields]:
        """The samples of a shard from its `start`-th on.

        Raises:
            DataError: the shard cannot be read, or is not what it was.
        """


def sha256_of(*parts: np.ndarray[Any, Any] | bytes) -> str:
    """The hex digest of arrays' and strings' bytes, one after the other."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else part.tobytes())
    return digest.hexdigest()
