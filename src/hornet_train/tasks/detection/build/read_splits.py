"""The training and the held-out pictures of a data group, as they are annotated."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from hornet_train.data.sources.split_by_hash import split_by_hash
from hornet_train.data.sources.split_names import split_notes
from hornet_train.errors import ConfigError, DataError
from hornet_train.tasks.detection.schema import CocoFolderData, Data, HubData, VocData
from hornet_train.tasks.detection.sources import coco_folders, voc_xml
from hornet_train.tasks.detection.sources.annotated import Annotated, Category
from hornet_train.tasks.detection.sources.coco_folders import JsonAndPictures
from hornet_train.tasks.detection.sources.coco_json import read_coco
from hornet_train.tasks.detection.sources.object_tables import open_table
from hornet_train.tasks.detection.sources.pictures import Pictures, opened
from hornet_train.tasks.detection.sources.voc_xml import read_voc, same_classes


@dataclass(frozen=True)
class Read:
    """A split as it was read.

    Attributes:
        pictures: with their objects.
        categories: of its file.
        chosen: what is to be said of the files that were taken.
    """

    pictures: Pictures
    categories: tuple[Category, ...]
    chosen: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """One sentence for each thing that a user should know of."""
        return (*self.chosen, *self.pictures.notes)


def read_splits(data: Data, training: bool = True) -> tuple[Read | None, Read | None]:
    """The training and the held-out pictures as they are annotated; see `open_objects`."""
    if isinstance(data, HubData):
        return _hub_splits(data, training)
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

    val = coco_folders.find(root, "val", data.val_json, data.val_images) if data.val else None
    if not training and data.val_share is None:  # it may hold nothing else
        return None, _held_out(val, root)
    found = coco_folders.find(root, "train", data.train_json, data.train_images)
    found = found or coco_folders.find(root, "", data.train_json, data.train_images)
    if found is None:
        raise DataError(
            f"{root} has no JSON of training pictures (train.json): data.train_json= names it"
            f"{coco_folders.other_kind(root)}"
        )
    if data.val_share is not None:
        if training and val is not None and not _test_for_val(val):
            raise DataError(
                f"data.val_share={data.val_share}, but {val.json} is there: leave data.val_share out, or "
                "rename the file"
            )
        return _share(_read(found), data.val_share, training)
    if val is not None and val.json.samefile(found.json):
        raise DataError(f"{found.json} is both to train on and to be held out: data.val_share=0.2 parts it")
    return _read(found), _held_out(val, root) if data.val else None


def _held_out(found: JsonAndPictures | None, root: Path) -> Read:
    if found is None:
        raise DataError(
            f"{root} has no JSON of held-out pictures (val.json): data.val_json= names it, "
            "data.val_share=0.2 holds out a fifth of the others, data.val=false evaluates nothing"
        )
    read = _read(found)
    return replace(read, chosen=_test_for_val(found))


def _test_for_val(found: JsonAndPictures) -> tuple[str, ...]:
    """A sentence where a test set stands in for the held-out pictures."""
    if not split_notes("val", found.json.parent.name):
        return ()
    return (
        f"there is no split 'val': evaluations are of {found.json}, and the best checkpoint is chosen by "
        "them (data.val_json= says so, data.val_share=0.2 leaves them alone)",
    )


def _share(whole: Read, share: float, training: bool) -> tuple[Read | None, Read]:
    """The training pictures but for a share, and these."""
    pictures = whole.pictures
    if len(pictures) < 2:
        raise DataError(f"{place_of(pictures)}: a single picture, of which nothing can be held out")
    keys = [pictures.name(place).encode() for place in range(len(pictures))]
    kept, out = split_by_hash(keys, share)
    train = Read(pictures.part(kept), whole.categories) if training else None
    return train, Read(pictures.part(out), whole.categories)


def _voc_splits(data: VocData, root: Path, training: bool) -> tuple[Read | None, Read | None]:
    if not training and data.val_split is None and data.val_share is None:
        raise ConfigError(["data.val_split=null holds nothing out to evaluate: data.val_split=val"])

    def find(split: str, key: str, *, whole: bool = False) -> Annotated:
        files = voc_xml.find(root, split) or (voc_xml.find(root, "") if whole else None)
        if files is None:
            raise DataError(
                f"{root} has neither ImageSets/Main/{split}.txt nor a folder {split}: {key}= names it; where "
                "nothing is split, data.val_share=0.2 holds out a fifth of all"
            )
        if key == "data.val_split":
            chosen[files.where] = split_notes(split, files.annotations.name)
        read, paths = read_voc(files)
        places[read.where] = (files.pictures, paths)
        return read

    places: dict[str, tuple[Path, list[bytes]]] = {}
    chosen: dict[str, tuple[str, ...]] = {}
    held_out = data.val_split if data.val_share is None else None
    wanted = training or data.val_share is not None
    unsplit = held_out is None
    train = find(data.train_split, "data.train_split", whole=unsplit) if wanted else None
    val = find(held_out, "data.val_split") if held_out is not None else None
    splits = [one for one in (train, val) if one is not None]
    read = {
        one.where: Read(opened(one, *places[one.where]), one.categories, chosen.get(one.where, ()))
        for one in same_classes(*splits)
    }
    whole = read[train.where] if train is not None else None
    if data.val_share is not None:
        assert whole is not None
        return _share(whole, data.val_share, training)
    return whole, read[val.where] if val is not None else None


def _hub_splits(data: HubData, training: bool) -> tuple[Read | None, Read | None]:
    assert data.name is not None
    if not training and data.val_split is None:
        raise ConfigError("data.val_split=null holds nothing out to evaluate: data.val_split=validation")
    found = list[Read | None]()
    for split in (data.train_split if training else None, data.val_split):
        if split is None:
            found.append(None)
            continue
        rows, read = open_table(
            *(data.name, split, data.config, data.revision),
            *(data.image_column, data.objects_column, data.box_format),
        )
        found.append(Read(rows, read.categories))
    return found[0], found[1]


def _read(found: JsonAndPictures) -> Read:
    annotated = read_coco(found.json)
    folder, paths = coco_folders.pictures_of(found, annotated.names)
    return Read(opened(annotated, folder, paths), annotated.categories)


def place_of(pictures: Pictures) -> str:
    """Where pictures lie, for messages."""
    return str(pictures.folders[0]) if pictures.folders else pictures.locate(0)
