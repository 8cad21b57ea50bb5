"""The data group of the config as labelled images: to train on, and held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from hornet_train.data.sources.listing import preview
from hornet_train.errors import ConfigError, DataError
from hornet_train.tasks.classification.build.open_listed import Opened, open_folders, open_table
from hornet_train.tasks.classification.schema import (
    EVALUATION_DATA,
    ClassOrder,
    CsvData,
    Data,
    FolderData,
    HubData,
    NamedImages,
    SyntheticData,
    TorchvisionData,
)
from hornet_train.tasks.classification.sources import (
    DigitsSource,
    HubSource,
    LabelledImages,
    LabelledShards,
    SyntheticSource,
    TorchvisionSource,
    check_wnids,
    imagenet_22k_wnids,
    imagenet_wnids,
    open_shards,
)
from hornet_train.tasks.classification.sources.class_order import in_class_order, order_notes
from hornet_train.tasks.classification.sources.labelled import ListedImages
from hornet_train.tasks.classification.sources.match_classes import (
    match_classes,
    read_renames,
    renamed,
    unused,
)
from hornet_train.tasks.classification.sources.relabelled import relabelled
from hornet_train.tasks.kit_types import Datasets

Labelled = LabelledImages | LabelledShards


def open_data(
    data: Data,
    *,
    training: bool = True,
    classes: Sequence[str] | None = None,
    kept: Mapping[str, Path] | None = None,
) -> Datasets:
    """The images that a data group names, held-out ones with the labels of the training images.

    Classes are matched by name. A class without a held-out image is no fault: what is there is evaluated.

    Args:
        data: the group.
        training: False leaves the training images alone.
        classes: those of a checkpoint: labels are places in them. With training images, only if these are of
            the same classes, in whatever order.
        kept: `train`, `val` -> the list of its files that a run has which goes on.

    Raises:
        DataError: they are not there, or not as they should be, or there is only one class to train on.
    """
    found = _sources(data, training, classes, kept or {})
    train, val = found.train, found.val
    renames = _renames(data)
    opened = [source for source in (train, val) if source is not None]
    notes = [
        note for source in opened if isinstance(source, HubSource | LabelledShards) for note in source.notes
    ]
    notes += [*found.notes, *unused(renames, *(source.classes for source in opened))]
    order = data.class_order if isinstance(data, FolderData | CsvData) else "sorted"
    train, val = (source and _rename(source, renames, order) for source in (train, val))
    if train is not None:
        if len(train.classes) < 2:
            raise DataError(
                f"the training images are all of one class, {train.classes[0]!r}: is data.root the folder "
                "that holds train/ and val/, with a folder for each class in them, or data.label_column "
                "another one?"
            )
        if classes is not None and sorted(classes) == sorted(train.classes):
            train = _placed(train, classes)
    wanted, where = (train.classes, "train") if train is not None else (classes, "the checkpoint")
    if val is not None and wanted is not None:
        matched = match_classes(val.classes, wanted, here="val" if training else "the data", there=where)
        val = _placed(val, wanted)
        notes += matched.notes
    absent = val.absent if val is not None else ()
    if val is not None and absent:
        notes.append(
            f"{len(absent)} of the {len(val.classes)} classes have no held-out image ({preview(absent)}): "
            "evaluations are of the others"
        )
    some = train if train is not None else val
    assert some is not None
    if classes is None and isinstance(data, FolderData | CsvData):
        notes += order_notes(some.classes, order)
    ignored = Counter(train.ignored if isinstance(train, ListedImages) else {})
    return Datasets(
        train,
        val,
        some.classes,
        shuffle_block=data.shuffle_buffer if isinstance(data, HubData) else 1,
        facts=(f"{ignored.total():,} files that are no images ({_shown(ignored)})",) if ignored else (),
        notes=tuple(notes),
        absent=len(absent),
        files=found.files,
    )


def _shown(ignored: Counter[str]) -> str:
    """The most frequent extensions of files that were passed over."""
    frequent = sorted(ignored.items(), key=lambda one: (-one[1], one[0]))[:3]
    shown = ", ".join(f"{count:,} {extension}" for extension, count in frequent)
    return shown + (", ..." if len(ignored) > 3 else "")


def _renames(data: Data) -> dict[str, str]:
    """What `data.class_map` says."""
    if not isinstance(data, NamedImages) or data.class_map is None:
        return {}
    return read_renames(Path(data.class_map))


def _rename(source: Labelled, renames: Mapping[str, str], order: ClassOrder) -> Labelled:
    """The same images under the new names of their classes; several old ones may have become one."""
    names = renamed(source.classes, renames)
    if names == source.classes:
        return source
    classes = in_class_order(set(names), order)
    return relabelled(source, [classes.index(name) for name in names], classes)


def _placed(source: Labelled, classes: Sequence[str]) -> Labelled:
    """The same images, each label the place of its class in `classes`."""
    if source.classes == tuple(classes):
        return source
    rows = match_classes(source.classes, classes, here="", there="").rows
    if isinstance(source, ListedImages) and rows is not None:
        return source.in_order(classes)
    return relabelled(source, rows if rows is not None else range(len(classes)), classes)


def _sources(data: Data, training: bool, classes: Sequence[str] | None, kept: Mapping[str, Path]) -> Opened:
    """The training and the held-out images, with the classes that their storage has."""
    assert not isinstance(data, EVALUATION_DATA), "these are opened by open_sets"
    if isinstance(data, FolderData):
        opened = open_folders(data, training=training, kept=kept)
        train, val = _of_label_set(data, opened.train, opened.val, placed=not classes)
        return replace(opened, train=train, val=val)
    if isinstance(data, CsvData):
        return open_table(data, training=training)
    if isinstance(data, HubData):
        return Opened(*_hub_sources(data, training, classes))
    if isinstance(data, TorchvisionData):
        assert data.root is not None
        return Opened(
            TorchvisionSource(data.name, data.root, "train") if training else None,
            TorchvisionSource(data.name, data.root, "val"),
        )
    if isinstance(data, SyntheticData):
        made = (data.source_size, data.num_classes)
        return Opened(
            SyntheticSource(data.train_count, *made, seed=0) if training else None,
            SyntheticSource(data.val_count, *made, seed=1),
        )
    return Opened(DigitsSource("train") if training else None, DigitsSource("val"))


def _of_label_set(
    data: FolderData, train: Labelled | None, val: Labelled | None, *, placed: bool
) -> tuple[Labelled | None, Labelled | None]:
    """The same with the labels of `data.classes`, which their class folders must be.

    `placed`: whether held-out images take these labels, too, and not those of a checkpoint.
    """
    if data.classes == "any":
        return train, val
    wnids, label_set = {
        "imagenet_1k": (imagenet_wnids(), "ImageNet-1K"),
        "imagenet_22k": (imagenet_22k_wnids(), "the published ImageNet-22K label set"),
    }[data.classes]
    some = train if train is not None else val
    assert some is not None
    if train is not None or not set(some.classes) < set(wnids):  # a part of them can be evaluated on
        check_wnids(some.classes, wnids, label_set)
    if isinstance(train, ListedImages):
        train = train.in_order(wnids)
    if isinstance(val, ListedImages) and set(val.classes) <= set(wnids) and placed:
        val = val.in_order(wnids)
    return train, val


def _hub_sources(
    data: HubData, training: bool, classes: Sequence[str] | None
) -> tuple[Labelled | None, Labelled | None]:
    def source(
        split: str, label_column: str | None, classes: Sequence[str] | None
    ) -> HubSource | LabelledShards:
        assert data.name is not None
        opened = open_shards if data.streaming else HubSource
        return opened(
            data.name,
            split,
            config_name=data.config,
            image_column=data.image_column,
            label_column=label_column,
            revision=data.revision,
            classes=classes,
        )

    train = source(data.train_split, data.label_column, None) if training else None
    if data.val_split is None:
        if train is None:
            raise ConfigError("data.val_split=null holds nothing out to evaluate: data.val_split=validation")
        return train, None
    if train is None:
        return None, source(data.val_split, data.label_column, classes)
    val = source(data.val_split, train.label_column, train.classes)
    if val.split == train.split or set(val.paths) & set(train.paths):
        raise DataError(
            f"data.val_split={data.val_split}: its images are those of data.train_split={data.train_split}; "
            "choose another split for one of them, or data.val_split=null holds nothing out"
        )
    return train, val
