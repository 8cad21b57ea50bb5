"""A detector that answers for pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from hornet_train.data.batch import Batch
from hornet_train.dense.rcnn.detector import Detector
from hornet_train.errors import CheckpointError
from hornet_train.tasks.detection.build.components import build_task, eval_transform
from hornet_train.tasks.detection.samples import PictureSamples
from hornet_train.tasks.detection.schema import DetectionEval
from hornet_train.tasks.detection.sources.published_classes import COCO
from hornet_train.tasks.detection.starting_weights import load_detector
from hornet_train.tasks.detection.task import Detection
from hornet_train.tasks.kit_types import Predictor, Weights


@dataclass(frozen=True)
class Answer:
    """The objects in each picture of a batch."""

    task: Detection
    classes: tuple[str, ...]

    def __call__(self, model: nn.Module, batch: Batch) -> list[dict[str, Any]]:
        """A picture's `objects`, the highest score first: each with `class`, `score`, `box` (left, top,
        right, bottom in pixels of the stored picture), and with masks `mask`, COCO's run-length code."""
        return [
            {
                "objects": [
                    {
                        "class": self.classes[int(label)],
                        "score": float(score),
                        "box": [float(side) for side in box],
                        **(
                            {"mask": {"size": list(mask.size), "counts": mask.counts.decode()}}
                            if mask is not None
                            else {}
                        ),
                    }
                    for box, score, label, mask in zip(
                        *(found.boxes, found.scores, found.labels),
                        found.masks or [None] * len(found.labels),
                        strict=True,
                    )
                ]
            }
            for found in self.task.answer(model, batch)
        ]


def open_prediction(config: DetectionEval, weights: Weights) -> Predictor:
    """The model with its weights, and the names of its outputs.

    Raises:
        UserError: the checkpoint is for another model.
    """
    heads = [tensor for name, tensor in weights.tensors.items() if name.endswith("fc_cls.weight")]
    if not heads:
        raise CheckpointError(f"{weights.place} has no box head, and so no classes to predict")
    outputs = len(heads[0]) - 1
    usual = COCO if outputs == len(COCO) else tuple(str(number) for number in range(outputs))
    classes = weights.classes or usual
    if len(classes) != outputs:
        raise CheckpointError(f"{weights.place} has {outputs} classes and {len(classes)} names of classes")
    task = build_task(config, outputs)
    model = task.build_model()
    assert isinstance(model, Detector)
    notes = load_detector(model, weights)
    samples = PictureSamples(eval_transform(config.data))
    return Predictor(model, samples, Answer(task, classes), classes, notes)
