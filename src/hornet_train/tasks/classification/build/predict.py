"""A classifier that answers for pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hornet_train.errors import CheckpointError, ConfigError
from hornet_train.images.size import Size, height_width, size_of
from hornet_train.tasks.asked import Asked
from hornet_train.tasks.classification.answers import TOP, ClassAnswers
from hornet_train.tasks.classification.build.channels import channel_notes
from hornet_train.tasks.classification.build.components import build_task, eval_transform, outputs_of
from hornet_train.tasks.classification.head import load_classifier, read_class_map
from hornet_train.tasks.classification.samples import PictureSamples
from hornet_train.tasks.classification.schema import ClassificationEval
from hornet_train.tasks.classification.sources import imagenet_wnids
from hornet_train.tasks.kit_types import Predictor, Weights
from hornet_train.tasks.model_check import check_image_size, filter_notes

FIVE = 5  # crops: the middle and the corners
_MULTIPLE = 32  # pixels, of the sides of scaled images


def open_prediction(config: ClassificationEval, weights: Weights, asked: Asked) -> Predictor:
    """The model with its weights, and the names of its outputs.

    Raises:
        UserError: the checkpoint is for another model, or does not take images of this size.
    """
    if config.suite is not None:
        raise ConfigError(["suite= chooses data to evaluate on, which a prediction does not open"])
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
    transform = eval_transform(config.data)
    sizes = {scale: _scaled(transform.image_size, scale) for scale in asked.scales or (1.0,)}
    for scale, size in sizes.items():
        key = "data.image_size" if scale == 1.0 else f"--scales {scale:g}: the image size"
        check_image_size(model, config.model.name, size, key, in_chans=config.model.in_chans)
        notes += filter_notes(model, size)
    notes += channel_notes(config)
    transforms = tuple(replace(transform, image_size=size) for size in sizes.values())
    samples = PictureSamples(transforms, config.data.exif, corners=asked.crops == FIVE)
    top = TOP if asked.top is None else asked.top
    answers = ClassAnswers(task, classes, top, asked.threshold or 0.0, asked.flip)
    only = next(iter(sizes.values())) if len(sizes) == 1 else None
    return Predictor(model, samples, answers, classes, tuple(dict.fromkeys(notes)), only)


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
