"""Reads a labelled image from a source, decoded."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from hornet_train.data.worker import decoded_image
from hornet_train.tasks.classification.sources import LabelledImages


def labelled(source: LabelledImages, index: int) -> tuple[Tensor, Any]:
    """(image, uint8 (3, H, W); label) of a sample."""
    fields = source.read(index)
    assert list(fields) == ["image", "label"]
    return decoded_image(fields["image"]), fields["label"]
