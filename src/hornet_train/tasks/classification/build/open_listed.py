"""The data groups of class folders and of tables of files: opened, and split where they are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hornet_train.data.sources.files import FileTree
from hornet_train.data.sources.listing import preview, with_count
from hornet_train.data.worker import allowed_bad
from hornet_train.errors import ConfigError, DataError
from hornet_train.tasks.classification.schema import CsvData, FolderData
from hornet_train.tasks.classification.sources import FlatSource, FolderSource, LabelledImages, imagenet_wnids
from hornet_train.tasks.classification.sources.class_order import in_class_order
from hornet_train.tasks.classification.sources.held_out_share import hold_out
from hornet_train.tasks.classification.sources.label_table import Columns, Row, read_label_table
from hornet_train.tasks.classification.sources.labelled import LabelledShards, ListedImages
from hornet_train.tasks.classification.sources.listed_files import ListedFiles
from hornet_train.tasks.classification.sources.split_folders import SplitFolders, find_folders

_SHARE = "data.val_share=0.2 (holds out a fifth of the training images of each class)"
_NONE = "data.val=false (trains without evaluations)"
_BEST = "the best checkpoint is then chosen by the test set, whose result is no longer that of a test"


@dataclass(frozen=True)
class Opened:
    """What a data group names.

    Attributes:
        train: None where no training images are asked for.
        val: None where nothing is held out.
        notes: one sentence for each thing that a user should know of.
        files: `train`, `val` -> the tree of files that it is in.
    """

    train: LabelledImages | LabelledShards | None
    val: LabelledImages | LabelledShards | None
    notes: tuple[str, ...] = ()
    files: Mapping[str, FileTree] = field(default_factory=dict)


def open_folders(data: FolderData, *, training: bool, kept: Mapping[str, Path]) -> Opened:
    """Class folders; with `data.val_share`, a share of them held out.

    Args:
        data: the group.
        training: whether training images are asked for.
        kept: `train`, `val` -> the list of its files that a run has which goes on.

    Raises:
        DataError: folders are missing or not as they should be.
        ConfigError: `data.val_share` beside a val folder.
    """
    assert data.root is not None
    found = find_folders(Path(data.root).expanduser(), data.train_dir, data.val_dir)
    if training:
        return _folders_to_train(data, found, kept)
    if found.val is not None:
        return Opened(None, _held_out(data, found.val), (*found.notes, *found.val_notes))
    if data.val_share is not None and found.train is not None:
        whole = _all_of(data, found.train, kept.get("train"))
        _, val = hold_out(whole, data.val_share)
        if not whole.files.changed.new:  # those that have gone have shaped the split, and are not evaluated
            val = val.without(whole.files.changed.gone)
        return Opened(None, val, (*found.notes, _share_note(data.val_share, found.train, val)))
    if found.test is not None:
        note = f"data.root={found.root} has no folder {data.val_dir}/: {found.test.name}/ is evaluated"
        return Opened(None, _held_out(data, found.test), (*found.notes, note))
    if found.train == found.root:
        note = f"data.root={found.root} holds class folders itself: all of them are evaluated"
        return Opened(None, _held_out(data, found.root), (*found.notes, note))
    raise DataError(
        f"data.root={found.root} has no folder {data.val_dir}/; {found.there_are}. Name the folder to "
        "evaluate on: data.val_dir=<folder>"
    )


def _folders_to_train(data: FolderData, found: SplitFolders, kept: Mapping[str, Path]) -> Opened:
    if found.train is None:
        raise DataError(
            f"data.root={found.root} has no folder {data.train_dir}/; {found.there_are}. Give the folder "
            "that holds train/ and val/, or class folders with pictures, or name it: data.train_dir=<folder>"
        )
    train, notes = _all_of(data, found.train, kept.get("train")), list(found.notes)
    files = {"train": train.files}
    if data.val_share is not None:
        if found.val is not None:
            raise ConfigError(
                [
                    f"data.val_share={data.val_share}, but {found.val} is there: leave data.val_share out to "
                    "evaluate on it, or rename it (to test, say) to hold out a share all the same"
                ]
            )
        some, val = hold_out(train, data.val_share)
        return Opened(some, val, (*notes, _share_note(data.val_share, found.train, val)), files)
    if not data.val:
        return Opened(train, None, tuple(notes), files)
    folder = found.val
    if folder is not None:
        notes += found.val_notes
    elif found.test is not None and _shares_classes(data, train, found.test):
        notes.append(
            f"data.root={found.root} has no folder {data.val_dir}/: {found.test.name}/ is evaluated during "
            f"the training, and {_BEST}; data.val_share=0.2 leaves it alone"
        )
        folder = found.test
    if folder is not None:
        held_out = _held_out(data, folder, kept.get("val"))
        if isinstance(held_out, FolderSource):
            files["val"] = held_out.files
        return Opened(train, held_out, tuple(notes), files)
    if found.train == found.root:
        what = f"data.root={found.root} holds class folders itself, and no images are held out"
    else:
        what = f"data.root={found.root} has no folder {data.val_dir}/; {found.there_are}"
    raise DataError(f"{what}. Choose: {_SHARE}, data.val_dir=<folder> (of held-out images), or {_NONE}")


def _all_of(
    data: FolderData, folder: Path, kept: Path | None = None, *, held_out: bool = False
) -> FolderSource:
    source = FolderSource(folder.parent, folder.name, held_out=held_out, kept=kept)
    return source.in_order(in_class_order(source.classes, data.class_order))


def _held_out(data: FolderData, folder: Path, kept: Path | None = None) -> LabelledImages:
    """Class folders, or loose images with a labels file."""
    if data.val_labels is None:
        return _all_of(data, folder, kept, held_out=True)
    return FlatSource(folder, data.val_labels, imagenet_wnids())


def _shares_classes(data: FolderData, train: ListedImages, folder: Path) -> bool:
    """Whether a test folder has one of the classes, and not, as Kaggle's, one folder of unlabelled images."""
    if data.class_map is not None:  # its names may all be others
        return True
    return any((folder / name).is_dir() for name in train.classes)


def _share_note(share: float, where: Path, val: ListedImages) -> str:
    return f"data.val_share={share} of {where}: {with_count(len(val), 'image')} held out"


def open_table(data: CsvData, *, training: bool) -> Opened:
    """Pictures that a table lists; with `data.val_share`, a share of them held out.

    Raises:
        DataError: the table cannot be used, files are missing, or nothing is held out.
        ConfigError: `data.val_share` beside lines of a split val.
    """
    assert data.file is not None
    table = Path(data.file).expanduser()
    rows = read_label_table(table, Columns(data.image_column, data.label_column, data.split_column))
    root = Path(data.root).expanduser() if data.root is not None else table.parent
    parts: dict[str, list[Row]] = {"train": [], "val": [], "test": []}
    for row in rows:
        parts[row.part or "train"].append(row)

    notes: list[str] = []

    def source(part: Sequence[Row]) -> ListedImages:
        names = in_class_order({row.label for row in part}, data.class_order)
        listed = ListedFiles(root, part, names, table, may_miss=allowed_bad(len(part), data.max_bad))
        if listed.missing:
            many = with_count(len(listed.missing), "file")
            notes.append(f"{many} of {table} cannot be found ({preview(listed.missing)}): as if unreadable")
        return listed

    def opened(train: LabelledImages | None, val: LabelledImages | None, *more: str) -> Opened:
        return Opened(train, val, (*more, *notes))

    key, unsplit = f"data.file={table}", rows[0].part is None
    if training and not parts["train"]:
        raise DataError(f"{key}: no line is of the split train")
    if training and data.val_share is not None and parts["val"]:
        raise ConfigError(
            [
                f"data.val_share={data.val_share}, but lines of {table} are of the split val: leave "
                "data.val_share out"
            ]
        )
    train = source(parts["train"]) if parts["train"] and (training or data.val_share is not None) else None
    if parts["val"] and (data.val or not training):
        return opened(train if training else None, source(parts["val"]))
    if data.val_share is not None and train is not None:
        some, val = hold_out(train, data.val_share)
        return opened(some if training else None, val, _share_note(data.val_share, table, val))
    if training and not data.val:
        return opened(train, None)
    if parts["test"]:
        note = f"no line of {table} is of the split val: those of test are evaluated"
        note += f" during the training, and {_BEST}; data.val_share=0.2 leaves them alone" if training else ""
        return opened(train, source(parts["test"]), note)
    if not training and unsplit:
        return opened(None, source(rows), f"all {with_count(len(rows), 'image')} of {table} are evaluated")
    what = "it has no column split" if unsplit else "no line is of the split val or test"
    if not training:
        raise DataError(f"{key}: {what}, and so nothing to evaluate")
    raise DataError(
        f"{key}: {what}, and so no images are held out. Choose: {_SHARE}, such a column, or {_NONE}"
    )
