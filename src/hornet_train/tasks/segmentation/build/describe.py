"""The parts of a segmentation model and what they cost, for hornet-info."""

from __future__ import annotations

from collections.abc import Collection

import torch

from hornet_train.dense.counts import count_dense
from hornet_train.dense.dense_models import SEGMENTERS
from hornet_train.errors import ConfigError
from hornet_train.images.size import as_value, height_width, size_of
from hornet_train.models.spec import MODEL_ERRORS, error_text
from hornet_train.tasks.kit_types import ModelParts, Table
from hornet_train.tasks.segmentation.build.components import build_model
from hornet_train.tasks.segmentation.schema import SegmentationInfo
from hornet_train.tasks.segmentation.sources.published_classes import ADE20K

_COLUMNS = ("part", "parameters", "GMACs", "as published, GFLOPs")


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
    height, width = height_width(size)
    try:
        counts = count_dense(built, (model.in_chans, height, width))
    except MODEL_ERRORS as error:
        raise ConfigError(
            [f"image_size={as_value(size)} does not suit {model.name}: {error_text(error)}"]
        ) from error
    parts = [*counts.parameters]
    rows = [
        (part, f"{counts.parameters[part]:,}", _giga(counts.macs.get(part)), _giga(counts.flops.get(part)))
        for part in parts
    ]
    totals = [sum(one.values()) for one in (counts.parameters, counts.macs, counts.flops)]
    rows.append(("all", f"{totals[0]:,}", _giga(totals[1]), _giga(totals[2])))
    name = model.name if published else f"{model.name}, {model.backbone}, fusion {model.fusion}"
    notes = [
        "GMACs: multiply-accumulates of convolutions and linear layers, of one image. As published: with one "
        "more for each output of a convolution with bias, of a ReLU behind a norm, and each pooled value.",
        "The auxiliary head is for training alone: it has parameters, and costs an evaluation nothing.",
    ]
    title = f"{name} at {height} x {width}, {classes} classes"
    return ModelParts(size, totals[0], totals[1], Table(title, _COLUMNS, rows), notes)


def _giga(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e9:.4f}"
