"""What sources of labelled images have in common, whatever they are stored as.

Their samples have two fields: `image`, the content of a file (`Encoded`) or uint8 (3, H, W) RGB that is
decoded already, and `label`. A label is an int; in sets for evaluation only it may be int64 (K,), any of
which is right, padded with -1.
"""

from __future__ import annotations

from typing import Literal, Protocol

from hornet_train.data.sources.source import Shards, Source

IMAGE, LABEL = "image", "label"
Split = Literal["train", "val"]


class LabelledImages(Source, Protocol):
    """Labelled images with random access."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""


class LabelledShards(Shards):
    """Labelled images in shards that are read from front to back.

    Attributes:
        classes: class names in label order.
        split: its name as the data set spells it.
        paths: of the shards.
        label_column: where the labels are; None where the storage has no columns.
        notes: a sentence for each thing that a user should know of.
    """

    classes: tuple[str, ...]
    split: str
    paths: tuple[str, ...]
    label_column: str | None = None
    notes: tuple[str, ...] = ()
