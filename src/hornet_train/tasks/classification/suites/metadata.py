"""Class lists and labels that timm ships."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from hornet_train.tasks.classification.sources.wnids import imagenet_wnids, timm_list


def subset_wnids(name: Literal["imagenet_a", "imagenet_r"]) -> tuple[str, ...]:
    """The 200 wnids of ImageNet-A or ImageNet-R, sorted."""
    return tuple(sorted(timm_list(f"{name}_synsets.txt")))


def rows_of(wnids: Sequence[str]) -> Tensor:
    """Where wnids stand among ImageNet-1K's: int64 (len(wnids),)."""
    position = {wnid: row for row, wnid in enumerate(imagenet_wnids())}
    return torch.tensor([position[wnid] for wnid in wnids])


def published_real_labels() -> list[list[int]]:
    """The labels of "Are we done with ImageNet?" (arXiv 2006.07159): a list for each of 50,000 images."""
    from timm.data import RealLabelsImagenet  # type: ignore[import-untyped,unused-ignore]  # slow to import

    labels: dict[str, list[int]] = RealLabelsImagenet([""] * 50_000).real_labels  # in the images' order
    return list(labels.values())
