"""What an evaluation set is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from hornet_train.data.sources.source import Shards, Source


@dataclass(frozen=True)
class Suite:
    """A set of images and what its labels mean to an ImageNet-1K head.

    Attributes:
        name: as configs and results call it.
        classes: what label 0, 1, ... is called; wnids where they are ImageNet's.
        parts: the images. Most sets have one part, named ""; ImageNet-C has one a corruption and severity.
        rows: int64 (len(classes),), the row of a 1,000-class head for each label; None where a label is its
            row.
        left_out: images that are not counted since they have no label.
        notes: what a user should know of how it was read, one sentence each.
        absent: how many classes have no image.
    """

    name: str
    classes: tuple[str, ...]
    parts: Mapping[str, Source | Shards]
    rows: Tensor | None = None
    left_out: int = 0
    notes: tuple[str, ...] = ()
    absent: int = 0
