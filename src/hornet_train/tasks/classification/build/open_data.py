"""The data group of the config as labelled images: to train on, and held out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hornet_train.errors import ConfigError, DataError
from hornet_train.tasks.classification.schema import (
    EVALUATION_DATA,
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
from hornet_train.tasks.kit_types import Datasets

Pair = tuple[LabelledImages | LabelledShards | None, LabelledImages | LabelledShards | None]


def open_data(data: Data, *, training: bool = True, classes: Sequence[str] | None = None) -> Datasets:
    """The images that a data group names.

    Args:
        data: the group.
        training: False leaves the training images alone.
        classes: those of the training images, where these are left alone: for labels without names.

    Raises:
        DataError: they are not there, or not as they should be, or there is only one class to train on.
    """
    train, val = _sources(data, training, classes)
    some = train if train is not None else val
    assert some is not None
    if training and len(some.classes) < 2:
        raise DataError(
            f"the training images are all of one class, {some.classes[0]!r}: is data.root the folder that "
            "holds train/ and val/, with a folder for each class in them, or data.label_column another one?"
        )
    ignored = train.ignored if isinstance(train, FolderSource) else 0
    return Datasets(
        train,
        val,
        some.classes,
        shuffle_block=data.shuffle_buffer if isinstance(data, HubData) else 1,
        facts=(f"{ignored:,} files that are no images",) if ignored else (),
    )


def _sources(data: Data, training: bool, classes: Sequence[str] | None) -> Pair:
    """The training and the held-out images."""
    assert not isinstance(data, EVALUATION_DATA), "these are opened by open_sets"
    if isinstance(data, FolderData):
        assert data.root is not None
        train: LabelledImages | None = FolderSource(data.root, data.train_dir) if training else None
        val = _held_out(data) if data.val or not training else None
        if train is not None and val is not None:
            check_same_classes(train.classes, val.classes)
        some = train if train is not None else val
        assert some is not None
        if data.classes == "imagenet_1k":
            check_wnids(some.classes, imagenet_wnids(), "ImageNet-1K")
        elif data.classes == "imagenet_22k":
            wnids = imagenet_22k_wnids()
            check_wnids(some.classes, wnids, "the published ImageNet-22K label set")
            train, val = (
                source.in_order(wnids) if isinstance(source, FolderSource) else source
                for source in (train, val)
            )
        return train, val
    if isinstance(data, TorchvisionData):
        assert data.root is not None
        return (
            TorchvisionSource(data.name, data.root, "train") if training else None,
            TorchvisionSource(data.name, data.root, "val"),
        )
    if isinstance(data, HubData):
        return _hub_sources(data, training, classes)
    if isinstance(data, SyntheticData):
        made = (data.source_size, data.num_classes)
        return (
            SyntheticSource(data.train_count, *made, seed=0) if training else None,
            SyntheticSource(data.val_count, *made, seed=1),
        )
    return (DigitsSource("train") if training else None, DigitsSource("val"))


def _held_out(data: FolderData) -> LabelledImages:
    """The val folder: class folders, or loose images with a labels file."""
    assert data.root is not None
    if data.val_labels is None:
        return FolderSource(data.root, data.val_dir)
    return FlatSource(Path(data.root) / data.val_dir, data.val_labels, imagenet_wnids())


def _hub_sources(data: HubData, training: bool, classes: Sequence[str] | None) -> Pair:
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
        return train, None
    val = source(data.val_split, classes if train is None else train.classes)
    if train is not None:
        check_same_classes(train.classes, val.classes)
    return train, val
