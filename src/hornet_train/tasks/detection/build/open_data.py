"""The data group of the config as pictures with objects: to train on, and held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from hornet_train.data.order import Shapes
from hornet_train.data.sources.listing import preview, with_count
from hornet_train.errors import ConfigError, DataError
from hornet_train.tasks.detection.boxes import usable
from hornet_train.tasks.detection.build.read_splits import Read, place_of, read_splits
from hornet_train.tasks.detection.schema import Data, Model
from hornet_train.tasks.detection.sources.annotated import Category
from hornet_train.tasks.detection.sources.pictures import Pictures
from hornet_train.tasks.kit_types import Datasets

SMALLEST = 32  # pixels: training pictures with a shorter side are left out, as published
_SHOWN = 6  # classes in the start panel
_OUTLINES = "left out of the mask losses, and neither right nor wrong to the mask AP of an evaluation"


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
    notes = list(dict.fromkeys(note for one in (train, val) if one is not None for note in one.notes))
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
            f"{preview(list(classes))}: name the categories of {place_of(read.pictures)} as it does"
        )


def _to_train_on(pictures: Pictures, empty: bool) -> tuple[Pictures, list[str]]:
    """The pictures that are trained on, and what is to be said of those that are not."""
    counts = usable_objects(pictures)
    sizes = pictures.sizes.min(1)
    small = (sizes > 0) & (sizes < SMALLEST)
    kept = ~small & (empty | (counts > 0))
    notes = []
    if not counts.sum():
        raise DataError(nothing_to_train_on(pictures))
    if small.any():
        notes.append(f"{with_count(int(small.sum()), 'training picture')} below {SMALLEST} pixels left out")
    if without := int((~small & (counts == 0)).sum()):
        done = "trained on" if empty else "left out: data.empty=true trains on them"
        notes.append(f"{with_count(without, 'training picture')} without objects {done}")
    if crowds := int(pictures.objects.crowd.sum()):
        notes.append(f"{with_count(crowds, 'crowd region')} of the training pictures not trained on")
    if not kept.any():
        raise DataError(
            f"{place_of(pictures)}: no picture is left to train on: they have less than {SMALLEST} pixels a "
            "side, or no objects"
        )
    return (pictures if kept.all() else pictures.part(np.flatnonzero(kept).tolist())), notes


def nothing_to_train_on(pictures: Pictures) -> str:
    """What is said where no object can be trained on."""
    objects = pictures.objects
    crowds, rest = int(objects.crowd.sum()), objects.objects - int(objects.crowd.sum())
    why = [f"{with_count(crowds, 'crowd or difficult object')}"] * bool(crowds)
    why += [f"{with_count(rest, 'object')} of no area"] * bool(rest)
    told = "".join(f"\n  - {note}" for note in (*why, *pictures.notes))
    return f"{place_of(pictures)}: no picture has an object that can be trained on{told}"


def _shapes(pictures: Pictures) -> Shapes | None:
    """Width over height of each picture, where they differ."""
    heights, widths = np.maximum(pictures.sizes.astype(np.float64), 1).T
    ratios = widths / heights
    return Shapes(ratios) if np.ptp(ratios) > 0 else None


def usable_objects(pictures: Pictures) -> np.ndarray:
    """How many objects of each picture are trained on."""
    objects = pictures.objects
    sizes = np.where(pictures.sizes > 0, pictures.sizes, 2**31 - 1)
    of_picture = np.repeat(np.arange(len(pictures)), np.diff(objects.starts))
    found = usable(objects.boxes, sizes[of_picture].astype(np.float64)) & ~objects.crowd & (objects.areas > 0)
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
    missing = int((~pictures.objects.outlined).sum())
    if not model.masks or not missing:
        return []
    if missing == pictures.objects.objects:
        raise ConfigError(
            [f"model.masks=true, and no object in {place_of(pictures)} has an outline: model.masks=false"]
        )
    return [f"{with_count(missing, 'object')} without an outline in {place_of(pictures)}: {_OUTLINES}"]
