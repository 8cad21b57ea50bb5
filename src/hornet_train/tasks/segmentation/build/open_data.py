"""The data group of the config as pictures with masks: to train on, and held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from hornet_train.data.sources.listing import preview, with_count
from hornet_train.data.sources.split_by_hash import split_by_hash
from hornet_train.errors import ConfigError, DataError
from hornet_train.tasks.kit_types import Datasets
from hornet_train.tasks.segmentation.build.classes_of_masks import Pairs, in_order_of, meaning_of
from hornet_train.tasks.segmentation.schema import Ade20kData, Data, HubData, MasksData
from hornet_train.tasks.segmentation.sources.mask_folders import find_pairs
from hornet_train.tasks.segmentation.sources.mask_tables import open_rows
from hornet_train.tasks.segmentation.sources.pairs import PairedFiles, PairFolders, open_pairs
from hornet_train.tasks.segmentation.sources.scan import MaskScan, evenly, scan

LOOKED_AT = 64  # masks of each split at every start
_TOLD = 5  # faults in a message
_SHOWN = 6  # classes in the start panel
AS_STORED = (
    "{} of the pictures that were looked at have an EXIF orientation that is not taken, as their masks have "
    "the size of the picture without it: look at them (hornet-data show)"
)
NO_LABELS = "none of the {} has a pixel with a label: data.ignore= and data.values= say what values mean"


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
    never = [name for name, pixels in zip(names, some.pixels, strict=True) if not pixels]
    named = not all(name.isdigit() for name in names)  # of others the same is said as they are counted
    if train is not None and never and named and some.looked_at == len(train):
        notes = (*notes, f"{len(never)} of the {len(names)} classes never come in training: {preview(never)}")
    if number := sum(one.as_stored for one in looked.values()):
        notes = (*notes, AS_STORED.format(number))
    shares = some.shares()
    order = np.argsort(-shares, kind="stable")[:_SHOWN]
    shown = ", ".join(f"{names[place]} {shares[place]:.1%}" for place in order)
    more = ", ..." if len(names) > _SHOWN else ""
    fact = f"pixels of {with_count(some.looked_at, 'mask')}: {shown}{more}"
    return PictureDatasets(
        train, val if held_out else None, names, facts=(fact,), notes=notes, looked_at=some
    )


def read_pictures(
    data: Data, training: bool = True, classes: Sequence[str] | None = None, *, tolerant: bool = False
) -> tuple[Pairs | None, Pairs | None, tuple[str, ...], tuple[str, ...]]:
    """The training and the held-out pictures, the names of the classes, and what is to be said.

    See `open_pictures`; masks are read only to count classes, where nothing says how many there are.

    Args:
        tolerant: passes over masks that cannot be read, unless none can.
    """
    train, val = _pairs(data, training)
    some = train if train is not None else val
    assert some is not None
    named, meaning, notes = meaning_of(data, some, classes, tolerant)
    meaning, names, more = in_order_of(named, meaning, classes, training)
    notes += more
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

    if not training and not data.val:
        raise ConfigError(["data.val=false holds nothing out to evaluate: data.val=true"])
    if not training and data.val_share is None:  # it may hold nothing else
        return None, open_pairs(find("val") or _nothing_held_out(root))
    folders = find("train")
    whole = open_pairs(folders or find("") or _missing(root))
    if not data.val:
        return whole, None
    if data.val_share is not None:
        if len(whole) < 2:
            raise DataError(f"{root} holds a single picture: nothing can be held out of it")
        if folders is not None and find("val") is not None:
            note = f"data.val_share={data.val_share} holds out training pictures: those of val are not read"
            whole = whole.noted(note)
        kept, out = split_by_hash([whole.key(place) for place in range(len(whole))], data.val_share)
        return (whole.part(kept) if training else None), whole.part(out)
    val = find("val") if folders is not None else None
    return (whole if training else None), open_pairs(val or _nothing_held_out(root))


def _nothing_held_out(root: Path) -> PairFolders:
    raise DataError(
        f"{root} has no held-out pictures (val): data.val_share=0.2 holds out a fifth of the others, "
        "data.val=false evaluates nothing"
    )


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


def _check(looked: MaskScan, what: str) -> None:
    """Raises DataError where masks that were looked at cannot be used."""
    if not looked.faults:
        if not looked.pixels.sum():
            raise DataError(NO_LABELS.format(f"{looked.looked_at} {what} masks that were looked at"))
        return
    told = "\n".join(str(fault) for fault in looked.faults[:_TOLD])
    more = f"\n... and {len(looked.faults) - _TOLD} more" * (len(looked.faults) > _TOLD)
    raise DataError(
        f"{len(looked.faults)} of {looked.looked_at} {what} masks that were looked at cannot be used:\n"
        f"{told}{more}\nhornet-data check --task segmentation looks at every one"
    )
