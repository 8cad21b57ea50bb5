"""The parts of a detector and what they cost, for hornet-info."""

from __future__ import annotations

from collections.abc import Collection

import torch

from hornet_train.dense.dense_models import DETECTORS
from hornet_train.images.size import height_width, size_of
from hornet_train.tasks.dense_table import model_parts
from hornet_train.tasks.detection.build.components import build_model
from hornet_train.tasks.detection.schema import DetectionInfo
from hornet_train.tasks.detection.sources.published_classes import COCO
from hornet_train.tasks.kit_types import ModelParts

_REGIONS = (
    "The heads are given 1,000 regions a stage, the mask heads 100, as the published figures are counted."
)


def describe_model(config: DetectionInfo, given: Collection[str]) -> ModelParts:
    """See `Kit`. Without a size, that of the published FLOPs: 800 x 1280 pixels."""
    model = config.model
    classes = model.num_classes or (config.num_classes if "num_classes" in given else len(COCO))
    size = config.image_size or size_of(800, 1280)
    with torch.device("meta"):
        built = build_model(model, classes, min(height_width(size)))
    name = model.name
    if name not in DETECTORS:
        name = f"{name}, {model.backbone}, neck {model.neck}" + ", no masks" * (not model.masks)
    return model_parts(
        *(built, name, size),
        in_chans=model.in_chans,
        classes=classes,
        relu="behind a norm or in the heads",
        notes=[_REGIONS],
    )
