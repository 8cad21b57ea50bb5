"""The parts of a segmentation model and what they cost, for hornet-info."""

from __future__ import annotations

from collections.abc import Collection

import torch

from hornet_train.dense.dense_models import SEGMENTERS
from hornet_train.images.size import size_of
from hornet_train.tasks.dense_table import model_parts
from hornet_train.tasks.kit_types import ModelParts
from hornet_train.tasks.segmentation.build.components import build_model
from hornet_train.tasks.segmentation.schema import SegmentationInfo
from hornet_train.tasks.segmentation.sources.published_classes import ADE20K

_AUXILIARY = "The auxiliary head is for training alone: it has parameters, and costs an evaluation nothing."


def describe_model(config: SegmentationInfo, given: Collection[str]) -> ModelParts:
    """See `Kit`. Without a size, that of the published FLOPs: 512 x 2048, or 640 x 2560 pixels."""
    model = config.model
    classes = model.num_classes or (config.num_classes if "num_classes" in given else len(ADE20K))
    published = model.name in SEGMENTERS
    size = config.image_size or 512
    if config.image_size is None and published:
        size = size_of(*((640, 2560) if "_large_" in model.name else (512, 2048)))
    with torch.device("meta"):
        built = build_model(model, classes, size, auxiliary=True)
    name = model.name if published else f"{model.name}, {model.backbone}, fusion {model.fusion}"
    return model_parts(
        *(built, name, size),
        in_chans=model.in_chans,
        classes=classes,
        relu="behind a norm",
        notes=[_AUXILIARY],
    )
