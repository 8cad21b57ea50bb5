"""The data group of the config as pictures with objects: to train on, and held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hornet_train.data.order import Shapes
from hornet_train.data.sources.listing import preview, with_count
from hornet_train.data.sources.split_by_hash import split_by_hash
from hornet_train.errors import ConfigError, DataError
from hornet_train.tasks.detection.boxes import usable
from hornet_train.tasks.detection.schema import CocoFolderData, Data, Model, VocData
from hornet_train.tasks.detection.sources import coco_folders, voc_xml
from hornet_train.tasks.detection.sources.annotated import Annotated, Category
from hornet_train.tasks.detection.sources.coco_folders import JsonAndPictures
from hornet_train.tasks.detection.sources.coco_json import read_coco
from hornet_train.tasks.detection.sources.pictures import Pictures, opened
from hornet_train.tasks.detection.sources.voc_xml import read_voc, same_classes
from hornet_train.tasks.kit_types import Datasets

SMALLEST = 32  # pixels: training pictures with a shorter side are left out, as published
_SHOWN = 6  # classes in the start panel


@dataclass(frozen=True)
class ObjectDatasets(Datasets):
    """Pictures with objects.

    Attributes:
        categories: the classes, with their numbers in the data set's files.
        present: places of the classes that the held-out pictures' file knows.
    """

    train: Pictures | None
    val: Pictures | None
    categories: tuple[Category, ...] = field(kw_only=True)
    present: tuple[int, ...] = field(kw_only=True)


@dataclass(frozen=True)
class Read:
    """A split as it was read."""

    pictures: Pictures
    categories: tuple[Category, ...]


def open_objects(
    data: Data, *, training: bool = True, classes: Sequence[str] | None = None
) -> ObjectDatasets:
    """The pictures and objects that a data group names.

    Args:
        data: the group.
        training: False leaves the training pictures alone.
        classes: those of a checkpoint, in its order; labels are then places in them.

    Raises:
        DataError: they are not there, not as they should be, or of other classes than the checkpoint's.
        ConfigError: the group contradicts itself.
    """
    train, val = read_splits(data, training)
    some = train if train is not None else val
    assert some is not None
    if train is not None and val is not None:
        check_same(train, val)
    categories = some.categories
    names = tuple(one.name for one in categories)
    if classes is not None and not training:
        check_known(names, classes, some)
        numbers = {one.name: one.number for one in categories}
        categories = tuple(Category(numbers.get(name, -1), name) for name in classes)
        names = tuple(classes)
    notes = list(
        dict.fromkeys(note for one in (train, val) if one is not None for note in one.pictures.notes)
    )
    kept = None
    if train is not None:
        kept, more = _to_train_on(train.pictures, data.empty)
        notes += more
        notes += _never(kept, names)
    held_out, present = None, tuple[int, ...]()
    if val is not None:
        places = [names.index(one.name) for one in val.categories]
        held_out, present = val.pictures.relabelled(places), tuple(places)
    seen = kept if kept is not None else held_out
    assert seen is not None
    return ObjectDatasets(
        kept,
        held_out,
        names,
        facts=(_counted(seen, names),),
        notes=tuple(notes),
        shapes=_shapes(kept) if kept is not None and data.group_shapes else None,
        categories=categories,
        present=present,
    )


def read_splits(data: Data, training: bool = True) -> tuple[Read | None, Read | None]:
    """The training and the held-out pictures as they are annotated; see `open_objects`."""
    assert data.root is not None
    root = Path(data.root)
    if isinstance(data, CocoFolderData):
        return _own_splits(data, root, training)
    if isinstance(data, VocData):
        return _voc_splits(data, root, training)
    return (_read(coco_folders.coco(root, "train")) if training else None), _read(
        coco_folders.coco(root, "val")
    )


def _own_splits(data: CocoFolderData, root: Path, training: bool) -> tuple[Read | None, Read | None]:
    if not training and not data.val:
        raise ConfigError(["data.val=false holds nothing out to evaluate: data.val=true"])

    def find_val() -> Read:
        found = coco_folders.find(root, "val", data.val_json, data.val_images)
        if found is None:
            raise DataError(
                f"{root} has no JSON of held-out pictures (val.json): data.val_json= names it, "
                "data.val_share=0.2 holds out a fifth of the others, data.val=false evaluates nothing"
            )
        return _read(found)

    if not training and data.val_share is None:  # it may hold nothing else
        return None, find_val()
    found = coco_folders.find(root, "train", data.train_json, data.train_images)
    found = found or coco_folders.find(root, "", data.train_json, data.train_images)
    if found is None:
        raise DataError(f"{root} has no JSON of training pictures (train.json): data.train_json= names it")
    whole = _read(found)
    if not data.val:
        return whole, None
    if data.val_share is not None:
        return _share(whole, data.val_share, training)
    return whole, find_val()


def _share(whole: Read, share: float, training: bool) -> tuple[Read | None, Read]:
    """The training pictures but for a share, and these."""
    pictures = whole.pictures
    if len(pictures) < 2:
        raise DataError(f"{pictures.folders[0]}: a single picture, of which nothing can be held out")
    keys = [pictures.name(place).encode() for place in range(len(pictures))]
    kept, out = split_by_hash(keys, share)
    train = Read(pictures.part(kept), whole.categories) if training else None
    return train, Read(pictures.part(out), whole.categories)


def _voc_splits(data: VocData, root: Path, training: bool) -> tuple[Read | None, Read | None]:
    if not training and data.val_split is None and data.val_share is None:
        raise ConfigError(["data.val_split=null holds nothing out to evaluate: data.val_split=val"])

    def find(split: str, key: str) -> Annotated:
        files = voc_xml.find(root, split)
        if files is None:
            raise DataError(
                f"{root} has neither ImageSets/Main/{split}.txt nor a folder {split}: {key}= names it"
            )
        read, paths = read_voc(files)
        places[read.where] = (files.pictures, paths)
        return read

    places: dict[str, tuple[Path, list[bytes]]] = {}
    wanted = training or data.val_share is not None
    train = find(data.train_split, "data.train_split") if wanted else None
    held_out = data.val_split if data.val_share is None else None
    val = find(held_out, "data.val_split") if held_out is not None else None
    splits = [one for one in (train, val) if one is not None]
    read = {one.where: Read(opened(one, *places[one.where]), one.categories) for one in same_classes(*splits)}
    whole = read[train.where] if train is not None else None
    if data.val_share is not None:
        assert whole is not None
        return _share(whole, data.val_share, training)
    return whole, read[val.where] if val is not None else None


def _read(found: JsonAndPictures) -> Read:
    annotated = read_coco(found.json)
    paths = coco_folders.locate(found.pictures, annotated.names)
    return Read(opened(annotated, found.pictures, paths), annotated.categories)


def check_same(train: Read, val: Read) -> None:
    """Raises DataError where held-out pictures have classes that training does not know."""
    known = {one.name for one in train.categories}
    if foreign := [one.name for one in val.categories if one.name not in known]:
        raise DataError(
            f"the held-out pictures have {with_count(len(foreign), 'class')} that training has not: "
            f"{preview(foreign)} (training has {preview(sorted(known))}); name them alike"
        )


def check_known(names: Sequence[str], classes: Sequence[str], read: Read) -> None:
    """Raises DataError where pictures have classes that a checkpoint does not know."""
    if foreign := [name for name in names if name not in classes]:
        raise DataError(
            f"the checkpoint knows no {preview(foreign)}, which the pictures' categories have; it knows "
            f"{preview(list(classes))}: name the categories of {read.pictures.folders[0].parent} as it does"
        )


def _to_train_on(pictures: Pictures, empty: bool) -> tuple[Pictures, list[str]]:
    """The pictures that are trained on, and what is to be said of those that are not."""
    counts = _usable_objects(pictures)
    sizes = pictures.sizes.min(1)
    small = (sizes > 0) & (sizes < SMALLEST)
    kept = ~small & (empty | (counts > 0))
    notes = []
    if not counts.sum():
        raise DataError(f"{pictures.folders[0]}: no picture has an object that can be trained on")
    if small.any():
        notes.append(f"{with_count(int(small.sum()), 'training picture')} below {SMALLEST} pixels left out")
    if without := int((~small & (counts == 0)).sum()):
        done = "trained on" if empty else "left out: data.empty=true trains on them"
        notes.append(f"{with_count(without, 'training picture')} without objects {done}")
    if crowds := int(pictures.objects.crowd.sum()):
        notes.append(f"{with_count(crowds, 'crowd region')} of the training pictures not trained on")
    if not kept.any():
        raise DataError(f"{pictures.folders[0]}: no picture is left to train on")
    return (pictures if kept.all() else pictures.part(np.flatnonzero(kept).tolist())), notes


def _shapes(pictures: Pictures) -> Shapes | None:
    """Width over height of each picture, where they differ."""
    heights, widths = np.maximum(pictures.sizes.astype(np.float64), 1).T
    ratios = widths / heights
    return Shapes(ratios) if np.ptp(ratios) > 0 else None


def _usable_objects(pictures: Pictures) -> np.ndarray:
    """How many objects of each picture are trained on."""
    objects = pictures.objects
    sizes = np.where(pictures.sizes > 0, pictures.sizes, 2**31 - 1)
    of_picture = np.repeat(np.arange(len(pictures)), np.diff(objects.starts))
    found = usable(objects.boxes, sizes[of_picture].astype(np.float64)) & ~objects.crowd
    counts: np.ndarray = np.bincount(of_picture[found], minlength=len(pictures))
    return counts


def _never(pictures: Pictures, names: Sequence[str]) -> list[str]:
    counts = np.bincount(pictures.objects.labels, minlength=len(names))
    never = [name for name, count in zip(names, counts, strict=True) if not count]
    if not never:
        return []
    return [f"{len(never)} of the {len(names)} classes never come in training: {preview(never)}"]


def _counted(pictures: Pictures, names: Sequence[str]) -> str:
    counts = Counter(pictures.objects.labels.tolist())
    shown = ", ".join(f"{names[label]} {count:,}" for label, count in counts.most_common(_SHOWN))
    more = ", ..." if len(counts) > _SHOWN else ""
    total = pictures.objects.objects
    return f"{with_count(total, 'object')} in {with_count(len(pictures), 'picture')}: {shown}{more}"


def check_outlines(model: Model, pictures: Pictures) -> list[str]:
    """What is to be said of objects without an outline, where masks are asked for.

    Raises:
        ConfigError: no object has one.
    """
    if not model.masks:
        return []
    missing = int((~pictures.objects.outlined).sum())
    if missing == pictures.objects.objects:
        raise ConfigError(
            [f"model.masks=true, and no object in {pictures.folders[0]} has an outline: model.masks=false"]
        )
    return [f"{with_count(missing, 'object')} without an outline not trained on"] if missing else []
