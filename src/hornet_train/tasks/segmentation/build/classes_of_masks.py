"""Which classes the masks of a data group have, and what their stored values mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hornet_train.data.sources.listing import preview
from hornet_train.errors import ConfigError, DataError
from hornet_train.images.layout import RGB
from hornet_train.tasks.segmentation.mask_coding import MOST_CLASSES, MaskCoding, coding
from hornet_train.tasks.segmentation.metrics import IGNORED
from hornet_train.tasks.segmentation.schema import Ade20kData, CityscapesData, Coded, Data, MasksData
from hornet_train.tasks.segmentation.sources.mask_tables import PairedRows
from hornet_train.tasks.segmentation.sources.named_classes import Classes, read_classes, split_ignored
from hornet_train.tasks.segmentation.sources.pairs import PairedFiles
from hornet_train.tasks.segmentation.sources.published_classes import (
    ADE20K,
    CITYSCAPES,
    CITYSCAPES_IGNORED,
    CITYSCAPES_VALUES,
)
from hornet_train.tasks.segmentation.sources.scan import stored_values

Pairs = PairedFiles | PairedRows


def meaning_of(
    data: Data, some: Pairs, classes: Sequence[str] | None, tolerant: bool
) -> tuple[Classes, MaskCoding, list[str]]:
    """The classes as the data name them, the coding of masks, and what is to be said.

    Args:
        some: samples to count the classes of, where nothing else says how many there are.
        classes: see `open_pictures`.
        tolerant: see `read_pictures`.
    """
    if isinstance(data, Ade20kData):
        return Classes(ADE20K), coding(len(ADE20K), reduce_zero_label=True), []
    if isinstance(data, CityscapesData):
        meaning = coding(len(CITYSCAPES), values=CITYSCAPES_VALUES, ignore=CITYSCAPES_IGNORED)
        return Classes(CITYSCAPES), meaning, []
    values, colours = split_ignored(data.ignore)
    named, notes = _named(data), list[str]()
    if named is None:
        if data.values is not None:
            count = len(data.values)
        elif classes is not None:  # masks with others are told as such
            count = len(classes)
        else:
            count, notes = _counted(data, some, values, tolerant)
        named = Classes(tuple(str(label) for label in range(count)))
    coloured: dict[RGB, int] | None = None
    if named.colours is not None:
        coloured = {colour: label for label, colour in enumerate(named.colours)}
        for colour in colours:
            coloured.setdefault(colour, IGNORED)
    try:
        meaning = coding(
            len(named.names),
            values=data.values,
            ignore=values,
            reduce_zero_label=data.reduce_zero_label,
            colours=coloured,
        )
    except ValueError as error:
        raise ConfigError([str(error)]) from error
    return named, meaning, notes


def _named(data: Coded) -> Classes | None:
    if data.classes is not None:
        return read_classes(Path(data.classes))
    usual = Path(data.root) / "classes.txt" if isinstance(data, MasksData) and data.root else None
    return read_classes(usual) if usual is not None and usual.is_file() else None


def _counted(data: Coded, some: Pairs, ignored: Sequence[int], tolerant: bool) -> tuple[int, list[str]]:
    """How many classes masks without names have, and what is to be said: every mask is read for that.

    Raises:
        DataError: their values are not those of classes that are counted up.
    """
    found = stored_values(some, range(len(some)))
    if found.faults and not (tolerant and found.examples):
        raise DataError(str(found.faults[0]))
    first = int(data.reduce_zero_label)
    labels = sorted(set(found.examples) - set(ignored) - set(range(first)))
    if set(labels) <= {0} and 255 in found.examples:
        raise DataError(
            "the masks have the values 0 and 255 alone: data.values=[0,255] makes these two the classes, "
            "data.ignore=null data.values=[0,255] both of them labelled"
        )
    if len(labels) < 2:
        what = "but one value" if labels else "no label"
        raise DataError(f"the masks hold {what}: there is nothing to tell apart")
    most, where = labels[-1], found.examples[labels[-1]]
    if most - first >= MOST_CLASSES:
        raise DataError(f"{where}: the mask has the value {most}: data.ignore={most}, if it is no class")
    missing = sorted(set(range(first, most)) - set(labels))
    if len(missing) >= len(labels):
        raise DataError(
            f"the masks have the values {preview([str(one) for one in labels])} with gaps between them "
            f"({most} is in {where}): data.values=[...] gives the value of each class"
        )
    notes = []
    if missing == [0]:
        notes.append(
            "no mask has the value 0, so class 0 never comes: data.reduce_zero_label=true would make "
            f"1..{most} the classes"
        )
    elif missing:
        notes.append(
            f"{len(missing)} of {most - first + 1} classes never come, "
            f"{preview([str(one) for one in missing])}: the largest value, {most}, is in {where}; "
            "classes.txt, a name a line, says how many there are"
        )
    return most - first + 1, notes


def in_order_of(
    named: Classes, meaning: MaskCoding, classes: Sequence[str] | None, training: bool
) -> tuple[MaskCoding, tuple[str, ...], list[str]]:
    """The coding with labels as places in a checkpoint's classes, their names, and what is to be said.

    Args:
        named, meaning: what `meaning_of` gave.
        classes: see `open_pictures`.
        training: whether a run goes on, which keeps its names; an evaluation has those of the data, if any.

    Raises:
        DataError: these are other classes.
    """
    if classes is None or tuple(classes) == named.names:
        return meaning, named.names, []
    if len(classes) == len(named.names) and all(name.isdigit() for name in (*named.names,)):
        return (
            meaning,
            tuple(classes),
            [
                f"the masks' classes have no names here: they are taken to be those of the checkpoint, "
                f"{preview(classes)}"
            ],
        )
    if len(classes) == len(named.names) and all(name.isdigit() for name in classes):
        note = f"the checkpoint's classes have no names: they are taken to be {preview(named.names)}"
        return meaning, tuple(classes) if training else named.names, [note]
    if sorted(classes) != sorted(named.names):
        missing = [name for name in named.names if name not in classes]
        extra = [name for name in classes if name not in named.names]
        raise DataError(
            f"the data have {len(named.names)} classes and the checkpoint {len(classes)}, and their names "
            f"differ: only the data have {preview(missing) or 'none'}, only the checkpoint "
            f"{preview(extra) or 'none'}; data.classes=<file with a name a line> calls them as the "
            "checkpoint does, data.values= says which values they have"
        )
    places = {label: tuple(classes).index(name) for label, name in enumerate(named.names)}
    colours = meaning.colours and {one: places.get(label, label) for one, label in meaning.colours.items()}
    moved = replace(
        meaning, values=tuple(places.get(value, value) for value in meaning.values), colours=colours
    )
    return moved, tuple(classes), ["labels are in the order of the checkpoint's classes, by their names"]
