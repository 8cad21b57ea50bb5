"""From the config of segmentation to its components: the model, the task, and the transforms of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from hornet_train.dense.backbone import build_backbone
from hornet_train.dense.dense_models import SEGMENTERS, create_segmenter, upernet
from hornet_train.dense.segmenter import Segmenter
from hornet_train.errors import ConfigError, did_you_mean
from hornet_train.images.normalize import Normalize
from hornet_train.images.policies import Policy
from hornet_train.images.policies.photometric import PhotometricDistortion
from hornet_train.images.resize import load_loops
from hornet_train.images.size import Size
from hornet_train.tasks.dense_backbone import (
    backbone_arguments,
    for_size,
    known_backbone,
    preprocessing_of,
    refusals,
    set_up,
)
from hornet_train.tasks.segmentation.inference import Inference
from hornet_train.tasks.segmentation.losses import PixelLoss
from hornet_train.tasks.segmentation.mask_coding import MOST_CLASSES
from hornet_train.tasks.segmentation.rules import OWN
from hornet_train.tasks.segmentation.schema import Augment, Data, Model, SegmentationConfig, SegmentationEval
from hornet_train.tasks.segmentation.task import Segmentation
from hornet_train.tasks.segmentation.transforms import EvalTransform, TrainTransform
from hornet_train.tasks.segmentation.windows import Windows


def build_task(
    config: SegmentationConfig | SegmentationEval,
    classes: int,
    *,
    auxiliary: float = 0.0,
    class_weights: Sequence[float] = (),
) -> Segmentation:
    """The task of a training or of an evaluation.

    Args:
        classes: K.
        auxiliary: weight of the auxiliary head's loss; 0 builds none.
        class_weights: see `PixelLoss`.

    Raises:
        ConfigError: the config does not suit so many classes.
    """
    model, data = config.model, config.data
    if model.num_classes not in (None, classes):
        raise ConfigError(
            [f"model.num_classes={model.num_classes}, but the data have {classes} classes: leave it null"]
        )
    if classes > MOST_CLASSES:
        raise ConfigError([f"{classes} classes: masks have {MOST_CLASSES} at most"])
    training = config if isinstance(config, SegmentationConfig) else None
    given = training.task if training else None
    return Segmentation(
        build=partial(build_model, model, classes, data.image_size, auxiliary=auxiliary > 0),
        classes=classes,
        normalize=Normalize(tuple(data.mean), tuple(data.std)),
        loss_of_pixels=PixelLoss(
            average=given.average if given else "valid",
            class_weights=tuple(class_weights),
            focal_gamma=given.focal_gamma if given else 0.0,
            hardest=given.hardest if given else 1.0,
            dice=given.dice if given else 0.0,
        ),
        auxiliary=auxiliary,
        size=data.image_size,
        inference=inference_of(data),
        pad=training.augment.pad if training else "crop",
        black=training is not None and training.augment.fill == "black",
        channels_last=model.channels_last,
    )


def inference_of(data: Data) -> Inference:
    """How pictures are answered for."""
    return Inference(
        Windows(data.image_size if data.inference == "slide" else None, data.stride), flip=data.flip
    )


def build_model(model: Model, classes: int, image_size: Size, *, auxiliary: bool) -> Segmenter:
    """The model of a config with its initial weights.

    Raises:
        ConfigError: there is no such model, or it does not take what it is given.
    """
    arguments = backbone_arguments(model)
    backbone = backbone_name(model)
    with refusals(model.name, backbone):
        if model.name in SEGMENTERS:
            built = create_segmenter(
                *(model.name, classes), dropout=model.dropout, **{"drop_path_rate": 0.0, **arguments}
            )
        else:
            built = upernet(
                build_backbone(backbone, **for_size(backbone, arguments, image_size)),
                classes,
                channels=model.channels or 512,
                fusion=model.fusion or "conv",
                dropout=model.dropout,
            )
    if not auxiliary:
        del built.auxiliary_head
    set_up(built, model, backbone)
    return built


def backbone_name(model: Model) -> str:
    """What timm calls the backbone.

    Raises:
        ConfigError: there is no such model.
    """
    if model.name in SEGMENTERS:
        return SEGMENTERS[model.name].backbone
    if model.name != OWN:
        hint = did_you_mean(model.name, [OWN, *SEGMENTERS])
        raise ConfigError([f"model.name={model.name}: no such segmentation model; {hint}"])
    assert model.backbone is not None
    return known_backbone(model.backbone)


def train_transform(data: Data, augment: Augment) -> TrainTransform:
    """How training pictures are cropped and augmented with their masks."""
    policies: tuple[Policy, ...] = (PhotometricDistortion(),) if augment.photometric else ()
    if data.workers:
        load_loops()
    return TrainTransform(
        crop=data.image_size,
        scale=data.scale,
        ratio=augment.ratio,
        cat_max_ratio=augment.cat_max_ratio,
        hflip=augment.hflip,
        policies=policies,
        antialias=data.antialias,
    )


def eval_transform(data: Data) -> EvalTransform:
    """How held-out pictures are resized."""
    if data.workers:
        load_loops()
    return EvalTransform(data.scale, tuple(data.ratios), antialias=data.antialias)


def preprocessing_of_backbone(config: SegmentationConfig | SegmentationEval) -> dict[str, Any]:
    """Key -> value of the preprocessing that timm's other models want."""
    return preprocessing_of(config.model.backbone, config.data.mean, config.data.std)
