"""A classifier that answers for pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from hornet_train.errors import CheckpointError, ConfigError
from hornet_train.images.size import Size, as_value, height_width, size_of, times
from hornet_train.tasks.asked import Asked
from hornet_train.tasks.classification.answers import TOP, ClassAnswers
from hornet_train.tasks.classification.build.channels import channel_notes
from hornet_train.tasks.classification.build.components import build_task, eval_transform, outputs_of
from hornet_train.tasks.classification.head import load_classifier, read_class_map
from hornet_train.tasks.classification.samples import PictureSamples
from hornet_train.tasks.classification.schema import ClassificationEval
from hornet_train.tasks.classification.sources import imagenet_wnids
from hornet_train.tasks.classification.task import Classification
from hornet_train.tasks.kit_types import Weights
from hornet_train.tasks.model_check import check_image_size, filter_notes
from hornet_train.tasks.predictor_types import Graph, Predictor

FIVE = 5  # crops: the middle and the corners
_MULTIPLE = 32  # pixels, of the sides of scaled images


def open_prediction(config: ClassificationEval, weights: Weights, asked: Asked) -> Predictor:
    """The model with its weights, and the names of its outputs.

    Raises:
        UserError: the checkpoint is for another model, or does not take images of this size.
    """
    if config.suite is not None:
        raise ConfigError(["suite= chooses data to evaluate on, which a prediction does not open"])
    if weights.exported is not None:
        task, model, notes = _of_export(config, weights, asked)
        classes = weights.classes
    else:
        task, model, classes, notes = _of_weights(config, weights)
    transform = eval_transform(config.data)
    sizes = {scale: _scaled(transform.image_size, scale) for scale in asked.scales or (1.0,)}
    for scale, size in sizes.items():
        if weights.exported is not None:
            continue
        key = "data.image_size" if scale == 1.0 else f"--scales {scale:g}: the image size"
        check_image_size(model, config.model.name, size, key, in_chans=config.model.in_chans)
        notes += filter_notes(model, size) if len(sizes) > 1 else []
    transforms = tuple(replace(transform, image_size=size) for size in sizes.values())
    samples = PictureSamples(transforms, config.data.exif, corners=asked.crops == FIVE)
    top = TOP if asked.top is None else asked.top
    answers = ClassAnswers(
        task, classes, top, asked.threshold or 0.0, asked.flip, whole=weights.exported is None
    )
    if weights.exported is not None:
        return Predictor(model, samples, answers, classes, notes)
    graph = Graph(lambda batch: task.images(batch).float().contiguous(), size)
    only = next(iter(sizes.values())) if len(sizes) == 1 else None
    return Predictor(model, samples, answers, classes, tuple(dict.fromkeys(notes)), only, graph)


def _of_export(
    config: ClassificationEval, weights: Weights, asked: Asked
) -> tuple[Classification, nn.Module, list[str]]:
    """An exported model. Raises ConfigError for images of another size than it takes."""
    assert weights.exported is not None
    fixed, size = weights.exported.size, config.data.image_size
    if fixed not in (None, height_width(size)):
        raise ConfigError(
            [f"data.image_size={as_value(size)}: {weights.place} is for {times(size_of(*fixed))}"]
        )
    if fixed is not None and asked.scales not in (None, (1.0,)):
        raise ConfigError([f"--scales: {weights.place} is for images of one size, {times(size)}"])
    return build_task(config, len(weights.classes)), weights.exported, channel_notes(config)


def _of_weights(
    config: ClassificationEval, weights: Weights
) -> tuple[Classification, nn.Module, tuple[str, ...], list[str]]:
    """The task, the model with its weights, and the names of its classes."""
    rows = read_class_map(Path(config.init_map)) if config.init_map is not None else None
    outputs = outputs_of(config, weights) or len(weights.classes)
    if not outputs:
        raise CheckpointError(f"{weights.place} has no head, and so no classes to predict")
    classes = weights.classes or _usual_names(outputs)
    if len(classes) != outputs:
        raise CheckpointError(f"{weights.place} has {outputs} classes and {len(classes)} names of classes")
    if rows is not None:
        classes = tuple(classes[row] if 0 <= row < outputs else "" for row in rows.tolist())
    task = build_task(config, len(classes))
    model = task.build_model()
    notes = load_classifier(model, weights, rows=rows)  # which refuses a map that does not fit
    return task, model, classes, [*notes, *channel_notes(config)]


def _scaled(size: Size, scale: float) -> Size:
    """The sides times a factor, as the multiples of 32 pixels that are nearest; of 1 as they are."""
    if scale == 1.0:
        return size
    height, width = (max(1, round(side * scale / _MULTIPLE)) * _MULTIPLE for side in height_width(size))
    return size_of(height, width)


def _usual_names(outputs: int) -> tuple[str, ...]:
    """The names of classes where weights carry none: ImageNet's WordNet ids for its 1,000, else numbers."""
    wnids = imagenet_wnids()
    return wnids if outputs == len(wnids) else tuple(str(number) for number in range(outputs))
