"""A segmentation model that answers for pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hornet_train.data.batch import Batch
from hornet_train.data.batch import size as count
from hornet_train.dense.segmenter import Segmenter
from hornet_train.errors import CheckpointError, ConfigError
from hornet_train.images.size import Size, height_width
from hornet_train.tasks.asked import Asked
from hornet_train.tasks.kit_types import ExportedModel, Weights
from hornet_train.tasks.predictor_types import Graph, Predictor
from hornet_train.tasks.segmentation.answers import MaskAnswers
from hornet_train.tasks.segmentation.build.components import build_task, eval_transform
from hornet_train.tasks.segmentation.samples import PictureSamples
from hornet_train.tasks.segmentation.schema import SegmentationEval
from hornet_train.tasks.segmentation.sources.published_classes import ADE20K
from hornet_train.tasks.segmentation.starting_weights import has_auxiliary, load_segmenter
from hornet_train.tasks.segmentation.task import Segmentation


def open_prediction(config: SegmentationEval, weights: Weights, asked: Asked) -> Predictor:
    """The model with its weights, and the names of its outputs.

    Raises:
        UserError: the checkpoint is for another model, or `asked` for what this task does not do.
    """
    if asked.top is not None or asked.threshold is not None:
        raise ConfigError(["--top and --threshold: segmentation gives each pixel its most probable class"])
    if asked.crops is not None:
        raise ConfigError(["--crops is for classification: segmentation sees whole pictures"])
    flip, ratios = config.data.flip or asked.flip, asked.scales or config.data.ratios
    config = replace(config, data=replace(config.data, flip=flip, ratios=ratios))
    if weights.exported is not None:
        return _of_export(config, weights, weights.exported)
    heads = [
        tensor for name, tensor in weights.tensors.items() if name.endswith("decode_head.conv_seg.weight")
    ]
    if not heads:
        raise CheckpointError(f"{weights.place} has no decode head, and so no classes to predict")
    outputs = heads[0].shape[0]
    usual = ADE20K if outputs == len(ADE20K) else tuple(str(number) for number in range(outputs))
    classes = weights.classes or usual
    if len(classes) != outputs:
        raise CheckpointError(f"{weights.place} has {outputs} classes and {len(classes)} names of classes")
    task = build_task(config, outputs, auxiliary=1.0 if has_auxiliary(weights) else 0.0)
    model = task.build_model()
    assert isinstance(model, Segmenter)
    notes = load_segmenter(model, weights)
    samples = PictureSamples(eval_transform(config.data))
    window = config.data.image_size if config.data.inference == "slide" else None
    graph = Graph(_inputs(task, config.data.image_size), config.data.image_size, dense=True)
    return Predictor(model, samples, MaskAnswers(task, classes), classes, notes, window, graph)


def _of_export(config: SegmentationEval, weights: Weights, exported: ExportedModel) -> Predictor:
    """An exported model, asked as the checkpoint's is: in windows, at scales."""
    task = build_task(config, len(weights.classes))
    model = exported if exported.size is None else _OfOneSize(exported, exported.size)
    samples = PictureSamples(eval_transform(config.data))
    return Predictor(model, samples, MaskAnswers(task, weights.classes), weights.classes)


class _OfOneSize(nn.Module):
    """An exported model that takes images of one size, for images of any: they are stretched to it, and the
    logits back. Windows of that size are taken as they are."""

    def __init__(self, exported: ExportedModel, size: tuple[int, int]) -> None:
        super().__init__()
        self._exported, self._size = exported, size

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) to logits (B, K, H, W)."""
        logits: Tensor = self._exported(stretched(images, self._size))
        return stretched(logits, images.shape[2:])


def stretched(maps: Tensor, size: Sequence[int]) -> Tensor:
    """Maps (B, C, H, W) of another (height, width), antialiased where they shrink."""
    if maps.shape[2:] == torch.Size(size):
        return maps
    return F.interpolate(maps, list(size), mode="bilinear", antialias=True)


def _inputs(task: Segmentation, size: Size) -> Callable[[Batch], Tensor]:
    """See `Graph`: whole pictures at the first scale, stretched to the size."""

    def inputs(batch: Batch) -> Tensor:
        images = (task.scales(batch, place)[0].float() for place in range(count(batch)))
        sides = height_width(size)
        return torch.cat([stretched(one, sides) for one in images])

    return inputs
