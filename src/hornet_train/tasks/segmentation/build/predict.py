"""A segmentation model that answers for pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from hornet_train.data.batch import Batch, ragged, size
from hornet_train.dense.segmenter import Segmenter
from hornet_train.errors import CheckpointError
from hornet_train.tasks.kit_types import Predictor, Weights
from hornet_train.tasks.segmentation.build.components import build_task, eval_transform
from hornet_train.tasks.segmentation.samples import PictureSamples
from hornet_train.tasks.segmentation.schema import SegmentationEval
from hornet_train.tasks.segmentation.sources.published_classes import ADE20K
from hornet_train.tasks.segmentation.starting_weights import has_auxiliary, load_segmenter
from hornet_train.tasks.segmentation.task import Segmentation


@dataclass(frozen=True)
class Answer:
    """The class of every pixel of each picture of a batch."""

    task: Segmentation
    classes: tuple[str, ...]

    def __call__(self, model: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        """A picture's `mask`, uint8 (H, W) on the CPU, of the picture's own size, and `shares`: class -> its
        share of the pixels, of those that come, the largest first."""
        found = []
        for place in range(size(batch)):
            height, width = ragged(batch, "mask")[place].shape
            images = self.task.scales(batch, place)
            answer = self.task.inference.answer(model, images, (height, width))
            mask = self.task.inference.predict(answer, (height, width)).cpu()
            counts = mask.flatten().bincount(minlength=len(self.classes))
            order = counts.argsort(descending=True, stable=True).tolist()
            shares = {
                self.classes[label]: int(counts[label]) / mask.numel() for label in order if counts[label]
            }
            found.append({"mask": mask, "shares": shares})
        return found


def open_prediction(config: SegmentationEval, weights: Weights) -> Predictor:
    """The model with its weights, and the names of its outputs.

    Raises:
        UserError: the checkpoint is for another model.
    """
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
    return Predictor(model, samples, Answer(task, classes), classes, notes, window)
