"""A detector that answers for pictures."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from torch import Tensor

from hornet_train.data.batch import Batch, ragged
from hornet_train.dense.rcnn.detector import Detector
from hornet_train.dense.rcnn.plain_detector import PlainDetector
from hornet_train.errors import CheckpointError, ConfigError
from hornet_train.models.global_filter import has_filters
from hornet_train.tasks.asked import Asked
from hornet_train.tasks.detection.answers import SHOWN, ObjectAnswers
from hornet_train.tasks.detection.build.components import build_task, eval_transform
from hornet_train.tasks.detection.samples import IMAGE, PictureSamples
from hornet_train.tasks.detection.schema import DetectionEval
from hornet_train.tasks.detection.sources.published_classes import COCO
from hornet_train.tasks.detection.starting_weights import load_detector
from hornet_train.tasks.detection.task import MULTIPLE, Detection
from hornet_train.tasks.kit_types import ExportedModel, Weights
from hornet_train.tasks.predictor_types import ObjectGraph, Predictor


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
        return _of_export(config, weights, weights.exported, asked)
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
    return Predictor(
        *(model, _samples(config, asked, None), _answers(task, classes, asked), classes, notes),
        graph=_graph(task, config, model),
    )


def _samples(config: DetectionEval, asked: Asked, canvas: tuple[int, int] | None) -> PictureSamples:
    transform = replace(eval_transform(config.data), canvas=canvas)
    return PictureSamples(tuple(replace(transform, ratio=ratio) for ratio in asked.scales or (1.0,)))


def _answers(task: Detection, classes: tuple[str, ...], asked: Asked) -> ObjectAnswers:
    shown = SHOWN if asked.threshold is None else asked.threshold
    return ObjectAnswers(task, classes, asked.threshold or 0.0, shown)


def _of_export(config: DetectionEval, weights: Weights, exported: ExportedModel, asked: Asked) -> Predictor:
    """An exported detector. Pictures are padded, and made to fit, if it takes images of one size."""
    if exported.size is not None and asked.scales not in (None, (1.0,)):
        raise ConfigError([f"--scales: {weights.place} is for images of one size"])
    task = replace(build_task(config, len(weights.classes)), flip=asked.flip, canvas=exported.size)
    samples = _samples(config, asked, exported.size)
    return Predictor(exported, samples, _answers(task, weights.classes, asked), weights.classes)


def _graph(task: Detection, config: DetectionEval, model: Detector) -> ObjectGraph:
    """The model for exports: for images of any size, or with global filters of the largest there are."""
    size: tuple[int, int] | None = None
    if has_filters(model):
        short, long = config.data.scale or (0, 0)
        size = (-(-short // MULTIPLE) * MULTIPLE, -(-long // MULTIPLE) * MULTIPLE)
    fitting = replace(task, canvas=size, channels_last=False)

    def inputs(batch: Batch) -> list[tuple[Tensor, tuple[int, int]]]:
        found = []
        for image in ragged(batch, IMAGE):
            fits = image if size is None else image[:, : size[0], : size[1]]
            pixels, (picture,) = fitting.padded([fits])
            found.append((pixels, picture))
        return found

    outputs = ("boxes", "scores", "labels", "masks")[: 4 if task.masks else 3]
    return ObjectGraph(lambda detector: PlainDetector(cast("Detector", detector)), inputs, size, outputs)
