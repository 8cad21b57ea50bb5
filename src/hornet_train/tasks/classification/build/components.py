"""From the config of classification to its components: the task, and the transforms of its images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import timm
import torch

from hornet_train.config.conf_files import own_settings
from hornet_train.errors import ConfigError
from hornet_train.images.normalize import Normalize
from hornet_train.images.policies import ColorJitter, Policy, RandomBlur, RandomGreyscale, parse_policy
from hornet_train.images.resize import load_loops
from hornet_train.images.size import height_width, in_proportion
from hornet_train.models.spec import ModelSpec
from hornet_train.models.variants import VARIANTS
from hornet_train.models.wrappers import unwrapped
from hornet_train.tasks.classification.build.channels import colour_of, for_channels
from hornet_train.tasks.classification.head import classifier_name
from hornet_train.tasks.classification.mixing import Mixer
from hornet_train.tasks.classification.schema import (
    ClassificationConfig,
    ClassificationEval,
    Data,
    Interpolation,
)
from hornet_train.tasks.classification.task import Classification
from hornet_train.tasks.classification.transforms import EvalTransform, Growth, TrainTransform
from hornet_train.tasks.kit_types import Weights


def build_task(config: ClassificationConfig | ClassificationEval, num_classes: int) -> Classification:
    """The task of a training; of an evaluation config, one that only evaluates.

    Raises:
        ConfigError: the config's number of classes is not the data's.
    """
    model, data = config.model, config.data
    if model.num_classes not in (None, num_classes):
        raise ConfigError(
            [f"model.num_classes={model.num_classes}, but the data have {num_classes} classes: leave it null"]
        )
    training = config if isinstance(config, ClassificationConfig) else None
    augment = training.augment if training else None
    return Classification(
        model=ModelSpec(
            name=model.name,
            num_classes=num_classes,
            drop_path=model.drop_path,
            grad_checkpointing=model.grad_checkpointing,
            channels_last=model.channels_last,
            kernels=model.kernels,
            args=model.args,
            in_chans=model.in_chans,
        ),
        normalize=Normalize(for_channels(data.mean, model.in_chans), for_channels(data.std, model.in_chans)),
        mixer=Mixer(
            num_classes,
            mixup=augment.mixup if augment else 0.0,
            cutmix=augment.cutmix if augment else 0.0,
            prob=augment.mix_prob if augment else 0.0,
            switch_prob=augment.switch_prob if augment else 0.0,
            smoothing=training.task.label_smoothing if training else 0.0,
        ),
        erasing=augment is not None and augment.erase > 0,
    )


def outputs_of(config: ClassificationEval, weights: Weights) -> int | None:
    """How many classes a checkpoint's weights are for, by their head; None where they have none.

    Raises:
        ConfigError: there is no such model, or it takes no such arguments.
    """
    with torch.device("meta"):  # the names of its tensors are all that is asked for
        spec = ModelSpec(config.model.name, 1, args=config.model.args, in_chans=config.model.in_chans)
        model = spec.build()
    bare, _ = unwrapped(weights.tensors, model.state_dict())
    head = bare.get(f"{classifier_name(model)}.weight")
    return head.shape[0] if head is not None and head.ndim else None


def growth_of(config: ClassificationConfig, *, steps_per_epoch: int, total_steps: int) -> Growth | None:
    """How the images grow in a run; None where all have one size."""
    augment = config.augment
    steps = augment.grow_until.steps(steps_per_epoch=steps_per_epoch, total_steps=total_steps)
    if augment.start_size is None or not steps:
        return None
    end = config.data.image_size
    return Growth(in_proportion(augment.start_size, end), end, steps / steps_per_epoch, augment.size_step)


def train_transform(config: ClassificationConfig, growth: Growth | None = None) -> TrainTransform:
    """How training images are cropped and augmented.

    Raises:
        ConfigError: for a policy that is not in the grammar.
    """
    data, augment = config.data, config.augment
    return TrainTransform(
        image_size=data.image_size,
        scale=augment.scale,
        ratio=augment.ratio,
        hflip=augment.hflip,
        interpolation=data.interpolation,
        policies=tuple(_policies(config)),
        erase_prob=augment.erase,
        growth=growth,
    )


def _policies(config: ClassificationConfig) -> Iterator[Policy]:
    """Those that are on, in timm's order: the policy, then colour jitter, greyscale and blur."""
    data, augment = config.data, config.augment
    if augment.policy is not None:
        try:
            yield parse_policy(augment.policy, colour_of(data), data.interpolation)
        except ValueError as error:
            raise ConfigError([f"augment.policy={augment.policy}: {error}"]) from error
    if augment.color_jitter is not None:
        yield ColorJitter(*augment.color_jitter, prob=augment.color_jitter_prob)
    if augment.grayscale:
        yield RandomGreyscale(augment.grayscale)
    if augment.blur:
        yield RandomBlur(augment.blur)


def preprocessing_of_model(config: ClassificationConfig | ClassificationEval) -> dict[str, Any]:
    """Key -> value of the preprocessing that timm's other models want, where the data have none of their own.

    A data group has its own where its values are not those that all groups begin with; a HorNet's are these.
    """
    name = config.model.name
    known = None if name in VARIANTS else timm.get_pretrained_cfg(name, allow_unregistered=True)
    if known is None:
        return {}
    general = own_settings("data", "_images")
    found: dict[str, Any] = {}
    for key in ("mean", "std", "crop_pct", "interpolation"):
        value, ours, now = getattr(known, key), general[key], getattr(config.data, key)
        usable = len(value) == len(ours) if isinstance(ours, list) else True
        if key == "interpolation":
            usable = value in get_args(Interpolation)
        if usable and _listed(value) != _listed(ours) == _listed(now):
            found[f"data.{key}"] = _listed(value)
    return found


def _listed(value: Any) -> Any:
    return [float(one) for one in value] if isinstance(value, (list, tuple)) else value


def stretch_notes(config: ClassificationConfig) -> list[str]:
    """A sentence where no crop of a training image has the proportions that the model sees."""
    height, width = height_width(config.data.image_size)
    (low, high), wanted = config.augment.ratio, width / height
    if height == width or low <= wanted <= high:
        return []
    return [
        f"augment.ratio=[{low:.4g},{high:.4g}], width / height of the crops to train on: they are stretched "
        f"to {height}x{width}, and pictures to evaluate on are not; augment.ratio=[{low * wanted:.4g},"
        f"{high * wanted:.4g}] keeps the proportions"
    ]


def eval_transform(data: Data) -> EvalTransform:
    """How held-out images are resized and cropped."""
    if data.workers:
        load_loops()
    return EvalTransform(data.image_size, data.crop_pct, data.interpolation)
