"""The data and augment groups as sources and transforms, and the task on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from hornet_train.config.schema import Augment, Config, Data, FolderData, HubData, Model, SyntheticData
from hornet_train.data.dataset import EvalSamples
from hornet_train.data.mixing import Mixer, Normalize
from hornet_train.data.policies import ColorJitter, Policy, RandomBlur, RandomGreyscale, parse_policy
from hornet_train.data.sources import (
    DigitsSource,
    FolderSource,
    HubSource,
    Source,
    SyntheticSource,
    check_same_classes,
    check_wnids,
)
from hornet_train.data.transforms import EvalTransform, TrainTransform
from hornet_train.errors import ConfigError, DataError
from hornet_train.tasks.classification import Classification, ModelSpec

IMAGENET_22K_CLASSES = 10_459  # of the published pre-training's label set


@dataclass(frozen=True)
class Sources:
    """Training and held-out images; None where there are none or none are needed."""

    train: Source | None
    val: Source | None

    @property
    def classes(self) -> tuple[str, ...]:
        some = self.train or self.val
        assert some is not None
        return some.classes

    def identity(self) -> dict[str, Any]:
        """What makes these images these images, as JSON: a run is one of the same images throughout."""
        parts = {"train": self.train, "val": self.val}
        return {
            "classes": list(self.classes),
            **{
                name: {"samples": len(source), "sha256": source.fingerprint}
                for name, source in parts.items()
                if source is not None
            },
        }


def build_sources(data: Data, *, training: bool = True, classes: Sequence[str] | None = None) -> Sources:
    """The images that a data group names.

    Args:
        data: the group.
        training: False leaves the training images alone.
        classes: those of the training images, where these are left alone: for labels without names.

    Raises:
        DataError: they are not there, or not as they should be.
    """
    if isinstance(data, FolderData):
        assert data.root is not None
        train = FolderSource(data.root, "train") if training else None
        val = FolderSource(data.root, "val") if data.val or not training else None
        if train is not None and val is not None:
            check_same_classes(train.classes, val.classes)
        sources = Sources(train, val)
        if data.classes == "imagenet_1k":
            check_wnids(sources.classes)
        elif data.classes == "imagenet_22k" and len(sources.classes) != IMAGENET_22K_CLASSES:
            raise DataError(
                f"data.root={data.root} has {len(sources.classes)} classes; the published 22K label set has "
                f"{IMAGENET_22K_CLASSES} (data=folder data.val=false takes any)"
            )
        return sources
    if isinstance(data, HubData):
        return _hub_sources(data, training, classes)
    if isinstance(data, SyntheticData):
        made = (data.source_size, data.num_classes)
        return Sources(
            SyntheticSource(data.train_count, *made, seed=0) if training else None,
            SyntheticSource(data.val_count, *made, seed=1),
        )
    return Sources(DigitsSource("train") if training else None, DigitsSource("val"))


def _hub_sources(data: HubData, training: bool, classes: Sequence[str] | None) -> Sources:
    def source(split: str, classes: Sequence[str] | None) -> HubSource:
        assert data.name is not None
        return HubSource(
            data.name,
            split,
            config_name=data.config,
            image_column=data.image_column,
            label_column=data.label_column,
            revision=data.revision,
            classes=classes,
        )

    train = source(data.train_split, None) if training else None
    if data.val_split is None:
        if train is None:
            raise ConfigError("data.val_split=null holds nothing out to evaluate: data.val_split=validation")
        return Sources(train, None)
    val = source(data.val_split, classes if train is None else train.classes)
    if train is not None:
        check_same_classes(train.classes, val.classes)
    return Sources(train, val)


def check_classes(sources: Sources) -> None:
    """Raises DataError where there is nothing to tell apart."""
    if len(sources.classes) < 2:
        raise DataError(
            f"the training images are all of one class, {sources.classes[0]!r}: is data.root the folder that "
            "holds train/ and val/, with a folder for each class in them, or data.label_column another one?"
        )


def build_task(model: Model, data: Data, num_classes: int, config: Config | None = None) -> Classification:
    """The classification task; without a training config, one that only evaluates.

    Raises:
        ConfigError: the config's number of classes is not the data's.
    """
    if model.num_classes not in (None, num_classes):
        raise ConfigError(
            [f"model.num_classes={model.num_classes}, but the data have {num_classes} classes: leave it null"]
        )
    augment = config.augment if config else None
    return Classification(
        model=ModelSpec(
            name=model.name,
            num_classes=num_classes,
            drop_path=model.drop_path,
            grad_checkpointing=model.grad_checkpointing,
            channels_last=model.channels_last,
            args=model.args,
        ),
        normalize=Normalize(data.mean, data.std),
        mixer=Mixer(
            num_classes,
            mixup=augment.mixup if augment else 0.0,
            cutmix=augment.cutmix if augment else 0.0,
            prob=augment.mix_prob if augment else 0.0,
            switch_prob=augment.switch_prob if augment else 0.0,
            smoothing=config.task.label_smoothing if config else 0.0,
        ),
        erasing=augment is not None and augment.erase > 0,
    )


def train_transform(data: Data, augment: Augment) -> TrainTransform:
    """Raises ConfigError for a policy that is not in the grammar."""
    return TrainTransform(
        image_size=data.image_size,
        scale=augment.scale,
        ratio=augment.ratio,
        hflip=augment.hflip,
        interpolation=data.interpolation,
        policies=tuple(_policies(data, augment)),
        erase_prob=augment.erase,
    )


def _policies(data: Data, augment: Augment) -> Iterator[Policy]:
    """Those that are on, in timm's order: the policy, then colour jitter, greyscale and blur."""
    if augment.policy is not None:
        red, green, blue = (round(255 * value) for value in data.mean)
        try:
            yield parse_policy(augment.policy, (red, green, blue), data.interpolation)
        except ValueError as error:
            raise ConfigError([f"augment.policy={augment.policy}: {error}"]) from error
    if augment.color_jitter is not None:
        yield ColorJitter(*augment.color_jitter, prob=augment.color_jitter_prob)
    if augment.grayscale:
        yield RandomGreyscale(augment.grayscale)
    if augment.blur:
        yield RandomBlur(augment.blur)


def eval_samples(source: Source, data: Data) -> EvalSamples:
    return EvalSamples(source, EvalTransform(data.image_size, data.crop_pct, data.interpolation))
