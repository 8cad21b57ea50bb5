"""The data and augment groups as sources and transforms, and the task on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hornet_train.config.schema import Model
from hornet_train.errors import ConfigError, DataError
from hornet_train.images.normalize import Normalize
from hornet_train.tasks.classification.mixing import Mixer
from hornet_train.tasks.classification.schema import (
    EVALUATION_DATA,
    ClassificationConfig,
    Data,
    FolderData,
    HubData,
    SyntheticData,
    TorchvisionData,
)
from hornet_train.tasks.classification.sources import (
    DigitsSource,
    FlatSource,
    FolderSource,
    HubSource,
    LabelledImages,
    LabelledShards,
    SyntheticSource,
    TorchvisionSource,
    check_same_classes,
    check_wnids,
    imagenet_22k_wnids,
    imagenet_wnids,
    open_shards,
)
from hornet_train.tasks.classification.task import Classification, ModelSpec


@dataclass(frozen=True)
class Sources:
    """Training and held-out images; None where there are none or none are needed.

    `dealt`: by what number of what shards are dealt out, on which the order of a stream's images depends.
    """

    train: LabelledImages | LabelledShards | None
    val: LabelledImages | LabelledShards | None
    dealt: Mapping[str, int] = field(default_factory=dict)

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
                name: {"samples": samples_of(source), "sha256": source.fingerprint}
                for name, source in parts.items()
                if source is not None
            },
            **({"dealt": dict(self.dealt)} if self.dealt else {}),
        }


def images_changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, str]:
    """`before -> after` in a few words, for each part of an identity that is another now."""
    return {
        name: f"{_brief(value)} -> {_brief(now.get(name))}"
        for name, value in before.items()
        if now.get(name) != value
    }


def _brief(part: Any) -> str:
    """An entry of the images' identity in a few words."""
    if isinstance(part, dict):
        if "sha256" not in part:
            return ", ".join(f"{value} {name.replace('_', ' ')}" for name, value in part.items())
        return f"{part['samples']:,} images, {part['sha256'][:8]}"
    return f"{len(part):,} classes" if isinstance(part, list) else str(part or "none")


def samples_of(source: LabelledImages | LabelledShards) -> int:
    """How many samples there are."""
    return sum(source.lengths) if isinstance(source, LabelledShards) else len(source)


def build_sources(data: Data, *, training: bool = True, classes: Sequence[str] | None = None) -> Sources:
    """The images that a data group names.

    Args:
        data: the group.
        training: False leaves the training images alone.
        classes: those of the training images, where these are left alone: for labels without names.

    Raises:
        DataError: they are not there, or not as they should be.
    """
    assert not isinstance(data, EVALUATION_DATA), "these have builders/suites"
    if isinstance(data, FolderData):
        assert data.root is not None
        train: LabelledImages | None = FolderSource(data.root, data.train_dir) if training else None
        val = _held_out(data) if data.val or not training else None
        if train is not None and val is not None:
            check_same_classes(train.classes, val.classes)
        sources = Sources(train, val)
        if data.classes == "imagenet_1k":
            check_wnids(sources.classes, imagenet_wnids(), "ImageNet-1K")
        elif data.classes == "imagenet_22k":
            wnids = imagenet_22k_wnids()
            check_wnids(sources.classes, wnids, "the published ImageNet-22K label set")
            train, val = (
                source.in_order(wnids) if isinstance(source, FolderSource) else source
                for source in (train, val)
            )
            sources = Sources(train, val)
        return sources
    if isinstance(data, TorchvisionData):
        assert data.root is not None
        return Sources(
            TorchvisionSource(data.name, data.root, "train") if training else None,
            TorchvisionSource(data.name, data.root, "val"),
        )
    if isinstance(data, HubData):
        return _hub_sources(data, training, classes)
    if isinstance(data, SyntheticData):
        made = (data.source_size, data.num_classes)
        return Sources(
            SyntheticSource(data.train_count, *made, seed=0) if training else None,
            SyntheticSource(data.val_count, *made, seed=1),
        )
    return Sources(DigitsSource("train") if training else None, DigitsSource("val"))


def _held_out(data: FolderData) -> LabelledImages:
    """The val folder: class folders, or loose images with a labels file."""
    assert data.root is not None
    if data.val_labels is None:
        return FolderSource(data.root, data.val_dir)
    return FlatSource(Path(data.root) / data.val_dir, data.val_labels, imagenet_wnids())


def _hub_sources(data: HubData, training: bool, classes: Sequence[str] | None) -> Sources:
    def source(split: str, classes: Sequence[str] | None) -> LabelledImages | LabelledShards:
        assert data.name is not None
        opened = open_shards if data.streaming else HubSource
        return opened(
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


def build_task(
    model: Model, data: Data, num_classes: int, config: ClassificationConfig | None = None
) -> Classification:
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
            kernels=model.kernels,
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
