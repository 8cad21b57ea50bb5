"""What sources of labelled images have in common, whatever they are stored as.

Their samples have two fields: `image`, the content of a file (`Encoded`) or uint8 (3, H, W) RGB that is
decoded already, and `label`. A label is an int; in sets for evaluation only it may be int64 (K,), any of
which is right, padded with -1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal, Protocol

from hornet_train.data.sources.source import Fields, Source

IMAGE, LABEL = "image", "label"
Split = Literal["train", "val"]


class LabelledImages(Source, Protocol):
    """Labelled images with random access."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""


class LabelledShards(ABC):
    """Labelled images in shards that are read from front to back; see `Shards`.

    Attributes:
        classes: class names in label order.
        lengths: samples of each shard.
        fingerprint: see `Shards`.
    """

    classes: tuple[str, ...]
    lengths: tuple[int, ...]
    fingerprint: str

    @abstractmethod
    def read(self, shard: int, start: int) -> Iterator[Fields]:
        """The samples of a shard from its `start`-th on.

        Raises:
            DataError: the shard cannot be read or is not what it was, or a label is none of the classes.
        """
