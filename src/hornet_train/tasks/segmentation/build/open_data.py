"""The data group of the config as pictures with masks: to train on, and held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from hornet_train.data.sources.listing import preview, with_count
from hornet_train.errors import ConfigError, DataError, SampleError
from hornet_train.images.layout import RGB
from hornet_train.tasks.kit_types import Datasets
from hornet_train.tasks.segmentation.mask_coding import MOST_CLASSES, MaskCoding, coding
from hornet_train.tasks.segmentation.metrics import IGNORED
from hornet_train.tasks.segmentation.schema import Ade20kData, CityscapesData, Coded, Data, HubData, MasksData
from hornet_train.tasks.segmentation.sources.mask_folders import find_pairs, held_out
from hornet_train.tasks.segmentation.sources.mask_tables import PairedRows, open_rows
from hornet_train.tasks.segmentation.sources.named_classes import Classes, read_classes, split_ignored
from hornet_train.tasks.segmentation.sources.pairs import PairedFiles, PairFolders, open_pairs
from hornet_train.tasks.segmentation.sources.published_classes import (
    ADE20K,
    CITYSCAPES,
    CITYSCAPES_IGNORED,
    CITYSCAPES_VALUES,
)
from hornet_train.tasks.segmentation.sources.scan import MaskScan, evenly, scan, stored_values

LOOKED_AT = 64  # masks of each split at every start
_TOLD = 5  # faults in a message
_SHOWN = 6  # classes in the start panel

Pairs = PairedFiles | PairedRows


@dataclass(frozen=True)
class PictureDatasets(Datasets):
    """Pictures with masks.

    Attributes:
        looked_at: what some of the training masks hold, else of the held-out ones.
    """

    train: Pairs | None
    val: Pairs | None
    looked_at: MaskScan = field(kw_only=True)


def open_pictures(
    data: Data,
    *,
    training: bool = True,
    held_out: bool = True,
    classes: Sequence[str] | None = None,
) -> PictureDatasets:
    """The pictures and masks that a data group names. Some masks of each split are looked at.

    Args:
        data: the group.
        training: False leaves the training pictures alone.
        held_out: False leaves the held-out ones alone.
        classes: those of a checkpoint, in its order; labels are then places in them.

    Raises:
        DataError: they are not there, not as they should be, or of other classes than the checkpoint's.
        ConfigError: the group contradicts itself.
    """
    train, val, names, notes = read_pictures(data, training, classes)
    looked = {}
    for what, source in (("training", train), ("held-out", val if held_out else None)):
        if source is not None:
            looked[what] = scan(source, len(names), evenly(len(source), LOOKED_AT))
            _check(looked[what], what)
    some = next(iter(looked.values()))
    shares = some.shares()
    order = np.argsort(-shares, kind="stable")[:_SHOWN]
    shown = ", ".join(f"{names[place]} {shares[place]:.1%}" for place in order)
    more = ", ..." if len(names) > _SHOWN else ""
    fact = f"pixels of {with_count(some.looked_at, 'mask')}: {shown}{more}"
    return PictureDatasets(
        train, val if held_out else None, names, facts=(fact,), notes=notes, looked_at=some
    )


def read_pictures(
    data: Data, training: bool = True, classes: Sequence[str] | None = None
) -> tuple[Pairs | None, Pairs | None, tuple[str, ...], tuple[str, ...]]:
    """The training and the held-out pictures, the names of the classes, and what is to be said.

    See `open_pictures`; no mask is looked at.
    """
    train, val = _pairs(data, training)
    some = train if train is not None else val
    assert some is not None
    named, meaning = _meaning(data, some)
    meaning, names, notes = _placed(named, meaning, classes)
    for source in (train, val):
        notes += source.notes if source is not None else ()
    train, val = (source and source.coded(meaning) for source in (train, val))
    return train, val, names, tuple(dict.fromkeys(notes))


def _pairs(data: Data, training: bool) -> tuple[Pairs | None, Pairs | None]:
    """The training and the held-out samples."""
    if isinstance(data, HubData):
        assert data.name is not None
        if not training and data.val_split is None:
            raise ConfigError("data.val_split=null holds nothing out to evaluate: data.val_split=validation")
        found = [
            None
            if split is None
            else open_rows(
                *(data.name, split, data.config, data.revision),
                *(data.image_column, data.mask_column),
            )
            for split in (data.train_split if training else None, data.val_split)
        ]
        return found[0], found[1]
    assert data.root is not None
    root = Path(data.root)
    if isinstance(data, MasksData):
        return _own_pairs(data, root, training)
    folders = _ade20k if isinstance(data, Ade20kData) else _cityscapes
    train = open_pairs(folders(root, "train")) if training else None
    return train, open_pairs(folders(root, "val"))


def _own_pairs(data: MasksData, root: Path, training: bool) -> tuple[PairedFiles | None, PairedFiles | None]:
    def find(split: str) -> PairFolders | None:
        return find_pairs(root, split, images_dir=data.images_dir, masks_dir=data.masks_dir)

    folders = find("train")
    whole = open_pairs(folders or find("") or _missing(root))
    if not data.val:
        if not training:
            raise ConfigError(["data.val=false holds nothing out to evaluate"])
        return whole, None
    if data.val_share is not None:
        if len(whole) < 2:
            raise DataError(f"{root} holds a single picture: nothing can be held out of it")
        kept, out = held_out([whole.key(place) for place in range(len(whole))], data.val_share)
        return (whole.part(kept) if training else None), whole.part(out)
    val = find("val") if folders is not None else None
    if val is None:
        raise DataError(
            f"{root} has no held-out pictures (val): data.val_share=0.2 holds out a fifth of the others, "
            "data.val=false evaluates nothing"
        )
    return (whole if training else None), open_pairs(val)


def _missing(root: Path) -> PairFolders:
    raise DataError(f"{root} holds no folders images/ and masks/")


def _ade20k(root: Path, split: str) -> PairFolders:
    inner = root / "ADEChallengeData2016"
    root = inner if inner.is_dir() else root
    name = {"train": "training", "val": "validation"}[split]
    return PairFolders(root / "images" / name, root / "annotations" / name)


def _cityscapes(root: Path, split: str) -> PairFolders:
    return PairFolders(
        root / "leftImg8bit" / split, root / "gtFine" / split, "_leftImg8bit", "_gtFine_labelIds"
    )


def _meaning(data: Data, some: Pairs) -> tuple[Classes, MaskCoding]:
    """The classes as the data name them, and the coding of masks.

    `some`: samples to count the classes of, where nothing else says how many there are.
    """
    if isinstance(data, Ade20kData):
        return Classes(ADE20K), coding(len(ADE20K), reduce_zero_label=True)
    if isinstance(data, CityscapesData):
        return Classes(CITYSCAPES), coding(
            len(CITYSCAPES), values=CITYSCAPES_VALUES, ignore=CITYSCAPES_IGNORED
        )
    values, colours = split_ignored(data.ignore)
    named = _named(data)
    if named is None:
        count = _counted(data, some, values) if data.values is None else len(data.values)
        named = Classes(tuple(str(label) for label in range(count)))
    coloured: dict[RGB, int] | None = None
    if named.colours is not None:
        coloured = {colour: label for label, colour in enumerate(named.colours)}
        for colour in colours:
            coloured.setdefault(colour, IGNORED)
    try:
        return named, coding(
            len(named.names),
            values=data.values,
            ignore=values,
            reduce_zero_label=data.reduce_zero_label,
            colours=coloured,
        )
    except ValueError as error:
        raise ConfigError([f"data.values={data.values and list(data.values)}: {error}"]) from error


def _named(data: Coded) -> Classes | None:
    if data.classes is not None:
        return read_classes(Path(data.classes))
    usual = Path(data.root) / "classes.txt" if isinstance(data, MasksData) and data.root else None
    return read_classes(usual) if usual is not None and usual.is_file() else None


def _counted(data: Coded, some: Pairs, ignored: Sequence[int]) -> int:
    """How many classes masks without names have: every mask is read for that."""
    try:
        counts = stored_values(some, range(len(some)))
    except SampleError as error:
        raise DataError(str(error)) from error
    present = set(np.flatnonzero(counts).tolist())
    labels = present - set(ignored)
    if labels <= {0} and 255 in present:
        raise DataError(
            "the masks have the values 0 and 255 alone: data.values=[0,255] makes these two the classes, "
            "data.ignore=null data.values=[0,255] both of them labelled"
        )
    most = max(labels, default=-1) - int(data.reduce_zero_label)
    if most < 1:
        raise DataError(
            f"the masks hold {'but one value' if labels else 'no label'}: there is nothing to tell apart"
        )
    if most >= MOST_CLASSES:
        raise DataError(
            f"the masks have values up to {max(labels)}: data.ignore={max(labels)}, if it is no class"
        )
    return most + 1


def _placed(
    named: Classes, meaning: MaskCoding, classes: Sequence[str] | None
) -> tuple[MaskCoding, tuple[str, ...], list[str]]:
    """The coding with labels as places in a checkpoint's classes, their names, and what is to be said.

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
    if sorted(classes) != sorted(named.names):
        missing = [name for name in named.names if name not in classes]
        extra = [name for name in classes if name not in named.names]
        raise DataError(
            f"the data have {len(named.names)} classes and the checkpoint {len(classes)}, and their names "
            f"differ: only the data have {preview(missing) or 'none'}, only the checkpoint "
            f"{preview(extra) or 'none'}"
        )
    places = {label: tuple(classes).index(name) for label, name in enumerate(named.names)}
    colours = meaning.colours and {one: places.get(label, label) for one, label in meaning.colours.items()}
    moved = replace(
        meaning, values=tuple(places.get(value, value) for value in meaning.values), colours=colours
    )
    return moved, tuple(classes), ["labels are in the order of the checkpoint's classes, by their names"]


def _check(looked: MaskScan, what: str) -> None:
    """Raises DataError where masks that were looked at cannot be used."""
    if not looked.faults:
        return
    told = "\n".join(str(fault) for fault in looked.faults[:_TOLD])
    more = f"\n... and {len(looked.faults) - _TOLD} more" * (len(looked.faults) > _TOLD)
    raise DataError(
        f"{len(looked.faults)} of {looked.looked_at} {what} masks that were looked at cannot be used:\n"
        f"{told}{more}\nhornet-data check --task segmentation looks at every one"
    )
