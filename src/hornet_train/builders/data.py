"""The data and augment groups as sources and transforms, and the task on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hornet_train.config.data_schema import EVALUATION_DATA, Data, FolderData, SyntheticData, TorchvisionData
from hornet_train.config.schema import Augment, Config, Model
from hornet_train.data.dataset import EvalSamples
from hornet_train.data.mixing import Mixer, Normalize
from hornet_train.data.policies import ColorJitter, Policy, RandomBlur, RandomGreyscale, parse_policy
from hornet_train.data.sources import (
    DigitsSource,
    FlatSource,
    FolderSource,
    Source,
    SyntheticSource,
    TorchvisionSource,
    check_same_classes,
    check_wnids,
    imagenet_22k_wnids,
    imagenet_wnids,
)
from hornet_train.data.transforms import EvalTransform, Growth, TrainTransform
from hornet_train.errors import ConfigError, DataError
from hornet_train.tasks.classification import Classification, ModelSpec


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


def build_sources(data: Data, *, training: bool = True) -> Sources:
    """The images that a data group names.

    Args:
        data: the group.
        training: False leaves the training images alone.

    Raises:
        DataError: they are not there, or not as they should be.
    """
    assert not isinstance(data, EVALUATION_DATA), "these have builders/suites"
    if isinstance(data, FolderData):
        assert data.root is not None
        train = FolderSource(data.root, data.train_dir) if training else None
        val = _held_out(data) if data.val or not training else None
        if train is not None and val is not None:
            check_same_classes(train.classes, val.classes)
        sources = Sources(train, val)
        if data.classes == "imagenet_1k":
            check_wnids(sources.classes, imagenet_wnids(), "ImageNet-1K")
        elif data.classes == "imagenet_22k":
            wnids = imagenet_22k_wnids()
            check_wnids(sources.classes, wnids, "the published ImageNet-22K label set")
            sources = Sources(train and train.in_order(wnids), val)
        return sources
    if isinstance(data, TorchvisionData):
        assert data.root is not None
        return Sources(
            TorchvisionSource(data.name, data.root, "train") if training else None,
            TorchvisionSource(data.name, data.root, "val"),
        )
    if isinstance(data, SyntheticData):
        made = (data.source_size, data.num_classes)
        return Sources(
            SyntheticSource(data.train_count, *made, seed=0) if training else None,
            SyntheticSource(data.val_count, *made, seed=1),
        )
    return Sources(DigitsSource("train") if training else None, DigitsSource("val"))


def _held_out(data: FolderData) -> Source:
    """The val folder: class folders, or loose images with a labels file."""
    assert data.root is not None
    if data.val_labels is None:
        return FolderSource(data.root, data.val_dir)
    return FlatSource(Path(data.root) / data.val_dir, data.val_labels, imagenet_wnids())


def check_classes(sources: Sources) -> None:
    """Raises DataError where there is nothing to tell apart."""
    if len(sources.classes) < 2:
        raise DataError(
            f"the training images are all of one class, {sources.classes[0]!r}: is data.root the folder that "
            "holds train/ and val/, with a folder for each class in them?"
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


def train_transform(data: Data, augment: Augment, grow_epochs: float = 0.0) -> TrainTransform:
    """Raises ConfigError for a policy that is not in the grammar.

    `grow_epochs`: the epochs of `augment.grow_until`.
    """
    growth = None
    if augment.start_size is not None and grow_epochs:
        growth = Growth(augment.start_size, data.image_size, grow_epochs, augment.size_step)
    return TrainTransform(
        image_size=data.image_size,
        scale=augment.scale,
        ratio=augment.ratio,
        hflip=augment.hflip,
        interpolation=data.interpolation,
        policies=tuple(_policies(data, augment)),
        erase_prob=augment.erase,
        growth=growth,
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
