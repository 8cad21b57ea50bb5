"""From the config of detection to its components: the model, the task, and the transforms of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from hornet_train.dense.backbone import build_backbone
from hornet_train.dense.dense_models import DETECTORS, create_detector
from hornet_train.dense.horfpn import Fusing
from hornet_train.dense.rcnn.detector import Detector, DetectorRules
from hornet_train.dense.rcnn.regions import REGION_STRIDES
from hornet_train.errors import ConfigError, did_you_mean
from hornet_train.images.normalize import Normalize
from hornet_train.images.policies import Policy
from hornet_train.images.policies.photometric import PhotometricDistortion
from hornet_train.images.resize import load_loops
from hornet_train.models.variants import VARIANTS
from hornet_train.tasks.dense_backbone import (
    backbone_arguments,
    for_size,
    known_backbone,
    preprocessing_of,
    refusals,
    set_up,
)
from hornet_train.tasks.detection.rules import OWN
from hornet_train.tasks.detection.samples import TrainSamples
from hornet_train.tasks.detection.schema import Augment, Data, DetectionConfig, DetectionEval, Model, Task
from hornet_train.tasks.detection.sources.pictures import Pictures
from hornet_train.tasks.detection.task import Detection
from hornet_train.tasks.detection.transforms import EvalTransform, TrainTransform

_MIXERS: dict[str, Fusing] = {"fpn": "conv", "horfpn_7x7": "7x7", "horfpn_gf": "gf"}
_USUAL_SIDE = 800  # of pictures where data.scale is null


def build_task(
    config: DetectionConfig | DetectionEval,
    classes: int,
    *,
    truth: Pictures | None = None,
    present: Sequence[int] = (),
) -> Detection:
    """The task of a training or of an evaluation.

    Args:
        config: of either.
        classes: K.
        truth, present: see `Detection`.

    Raises:
        ConfigError: the config does not suit so many classes.
    """
    model, data = config.model, config.data
    if model.num_classes not in (None, classes):
        raise ConfigError(
            [f"model.num_classes={model.num_classes}, but the data have {classes} classes: leave it null"]
        )
    training = config.task if isinstance(config, DetectionConfig) else None
    side = data.scale[0] if data.scale is not None else _USUAL_SIDE
    return Detection(
        build=partial(build_model, model, classes, side, training),
        classes=classes,
        normalize=Normalize(tuple(data.mean), tuple(data.std)),
        masks=model.masks,
        black=data.fill == "black",
        channels_last=model.channels_last,
        truth=truth,
        present=tuple(present),
    )


def build_model(model: Model, classes: int, side: int, training: Task | None = None) -> Detector:
    """The model of a config with its initial weights.

    Args:
        model: of the config.
        classes: K.
        side: of the pictures, in pixels, for backbones that are made for a size.
        training: what is changed of the model's own rules of training; None changes nothing.

    Raises:
        ConfigError: there is no such model, or it does not take what it is given.
    """
    arguments = backbone_arguments(model)
    backbone = backbone_name(model)
    with refusals(model.name, backbone):
        if model.name in DETECTORS:
            built = create_detector(
                *(model.name, classes), masks=model.masks, **{"drop_path_rate": 0.0, **arguments}
            )
        else:
            built = Detector(
                build_backbone(backbone, **for_size(backbone, _strided(backbone, arguments), side)),
                classes,
                mixer=_MIXERS[model.neck or "fpn"],
                cascade=model.name.startswith("cascade"),
                masks=model.masks,
                channels=model.channels or 256,
                width=model.width or 1024,
            )
    if training is not None:
        built.rules = _changed(built.rules, training)
    set_up(built, model, backbone)
    return built


def _strided(backbone: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The same arguments, with a stem of the published stride: HorNet pico's own is 2."""
    return {"stem_stride": REGION_STRIDES[0], **arguments} if backbone in VARIANTS else arguments


def _changed(rules: DetectorRules, training: Task) -> DetectorRules:
    rpn, roi = rules.rpn, rules.roi
    if training.border is not None:
        rpn = replace(rpn, border=training.border)
    if training.regions is not None:
        roi = replace(roi, sampler=replace(roi.sampler, number=training.regions))
    return DetectorRules(rpn, roi)


def backbone_name(model: Model) -> str:
    """What timm calls the backbone.

    Raises:
        ConfigError: there is no such model.
    """
    if model.name in DETECTORS:
        return DETECTORS[model.name].backbone
    if model.name not in OWN:
        hint = did_you_mean(model.name, [*OWN, *DETECTORS])
        raise ConfigError([f"model.name={model.name}: no such detector; {hint}"])
    assert model.backbone is not None
    return known_backbone(model.backbone)


def train_transform(data: Data, augment: Augment) -> TrainTransform:
    """How training pictures are resized, cropped and augmented with their objects."""
    policies: tuple[Policy, ...] = (PhotometricDistortion(),) if augment.photometric else ()
    if data.workers:
        load_loops()
    return TrainTransform(
        short_sides=augment.short_sides,
        scale=data.scale,
        crop_share=augment.crop_share,
        crop_short_sides=tuple(augment.crop_short_sides),
        crop=augment.crop,
        jitter=augment.jitter,
        hflip=augment.hflip,
        policies=policies,
        antialias=data.antialias,
    )


def train_samples(config: DetectionConfig, pictures: Pictures) -> TrainSamples:
    """What makes training samples of stored pictures with their objects."""
    transform = train_transform(config.data, config.augment)
    paste = config.augment.copy_paste
    return TrainSamples(transform, config.seed, config.model.masks, paste, pictures if paste else None)


def preparation_notes(config: DetectionConfig) -> list[str]:
    """What is to be said of how pictures become the model's input."""
    data, augment, notes = config.data, config.augment, []
    sides = augment.short_sides
    measured = None if data.scale is None else data.scale[0]
    if augment.jitter is None and sides and (measured is None or not min(sides) <= measured <= max(sides)):
        trained = f"{min(sides)} to {max(sides)}" if len(sides) > 1 else str(sides[0])
        evaluated = "pictures as they are stored" if measured is None else f"those of {measured}"
        notes.append(
            f"trains on pictures whose shorter side has {trained} pixels (augment.short_sides) and evaluates "
            f"{evaluated} (data.scale): augment.short_sides=null trains at data.scale, too"
        )
    if config.init_from is None and data.fill == "mean":
        notes.append(
            "weights start at random, and the padding of pictures is 0 to the model: norms divide by the "
            "spread of such pixels, 0 then; data.fill=black avoids gradients that are not finite"
        )
    return notes


def eval_transform(data: Data) -> EvalTransform:
    """How held-out pictures are resized."""
    if data.workers:
        load_loops()
    return EvalTransform(data.scale, antialias=data.antialias)


def preprocessing_of_backbone(config: DetectionConfig | DetectionEval) -> dict[str, Any]:
    """Key -> value of the preprocessing that timm's other models want."""
    return preprocessing_of(config.model.backbone, config.data.mean, config.data.std)
