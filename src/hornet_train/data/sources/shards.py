"""Shards: what data sets are that come in pieces, read from front to back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable


class Encoded(NamedTuple):
    """A sample as it is stored: the bytes of an image file, its label, and where it lies, for messages."""

    data: bytes
    label: int
    where: str


@runtime_checkable
class Shards(Protocol):
    """A data set in pieces, each of which is read from front to back.

    Attributes:
        lengths: samples of each shard, known without reading them.
    """

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""

    @property
    def lengths(self) -> tuple[int, ...]: ...

    @property
    def fingerprint(self) -> str:
        """A SHA-256 of which shards these are: names, numbers of samples, class names, and what else can be
        had without reading them (sizes of tables; sizes and labels of the images in near tars)."""

    def read(self, shard: int, start: int) -> Iterator[Encoded]:
        """The samples of a shard from its `start`-th on.

        Raises:
            DataError: the shard cannot be read, or is not what it was.
        """
