"""A detector that answers for pictures."""

from __future__ import annotations

from dataclasses import replace

from hornet_train.dense.rcnn.detector import Detector
from hornet_train.errors import CheckpointError, ConfigError
from hornet_train.tasks.asked import Asked
from hornet_train.tasks.detection.answers import SHOWN, ObjectAnswers
from hornet_train.tasks.detection.build.components import build_task, eval_transform
from hornet_train.tasks.detection.samples import PictureSamples
from hornet_train.tasks.detection.schema import DetectionEval
from hornet_train.tasks.detection.sources.published_classes import COCO
from hornet_train.tasks.detection.starting_weights import load_detector
from hornet_train.tasks.kit_types import Weights
from hornet_train.tasks.predictor_types import Predictor


def open_prediction(config: DetectionEval, weights: Weights, asked: Asked) -> Predictor:
    """The model with its weights, and the names of its outputs.

    Raises:
        UserError: the checkpoint is for another model, or `asked` for what this task does not do.
    """
    if asked.top is not None:
        raise ConfigError(["--top is for classification: --threshold says which objects are left out"])
    if asked.crops is not None:
        raise ConfigError(["--crops is for classification: a detector sees whole pictures"])
    if weights.exported is not None:
        raise ConfigError([f"{weights.place}: of exported models hornet-predict runs classifiers alone"])
    heads = [tensor for name, tensor in weights.tensors.items() if name.endswith("fc_cls.weight")]
    if not heads:
        raise CheckpointError(f"{weights.place} has no box head, and so no classes to predict")
    outputs = len(heads[0]) - 1
    usual = COCO if outputs == len(COCO) else tuple(str(number) for number in range(outputs))
    classes = weights.classes or usual
    if len(classes) != outputs:
        raise CheckpointError(f"{weights.place} has {outputs} classes and {len(classes)} names of classes")
    task = replace(build_task(config, outputs), flip=asked.flip)
    model = task.build_model()
    assert isinstance(model, Detector)
    notes = load_detector(model, weights)
    transform = eval_transform(config.data)
    samples = PictureSamples(tuple(replace(transform, ratio=ratio) for ratio in asked.scales or (1.0,)))
    shown = SHOWN if asked.threshold is None else asked.threshold
    answers = ObjectAnswers(task, classes, asked.threshold or 0.0, shown)
    return Predictor(model, samples, answers, classes, notes)
