"""Which folders of a data set hold the images to train on and the held-out ones, however they are called."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from hornet_train.data.sources.listing import check_folder, names_in, preview
from hornet_train.data.sources.litter import is_litter
from hornet_train.images.formats import EXTENSIONS

TRAIN, VAL = "train", "val"  # the names that are looked for where no others are given
_TRAINS = (TRAIN, "training")  # in any case
_VALS = (VAL, "valid", "validation", "dev")
_TESTS = ("test", "testing")
_LOOKED_INTO = 5  # class folders


@dataclass(frozen=True)
class SplitFolders:
    """What was found; None for what is not there.

    Attributes:
        root: the folder that holds them.
        train: of the training images; `root` itself where that holds the class folders.
        val: of held-out images.
        test: of a test set, with class folders.
        present: the names of the folders in `root`.
        notes: one sentence for each thing that is called otherwise than it was looked for, but for `val`.
        val_notes: the same for `val`.
    """

    root: Path
    train: Path | None
    val: Path | None
    test: Path | None
    present: tuple[str, ...]
    notes: tuple[str, ...]
    val_notes: tuple[str, ...]

    @property
    def there_are(self) -> str:
        """What the root holds, for messages."""
        return f"there are: {preview(self.present)}" if self.present else "it holds no folders"


def find_folders(root: Path, train_dir: str, val_dir: str) -> SplitFolders:
    """Look for the folders of a data set.

    Where no folder is called as it was asked for, and the default was, these count too: `training`, `valid`,
    `validation`, `dev`, `test`, `testing`, in upper case too; a root of class folders; and a root that is the
    training folder itself, beside which the others are.

    Raises:
        DataError: no such root.
    """
    check_folder(root, "set data.root= to the folder that holds train/ and val/", "data.root=")
    notes: list[str] = []
    present = _folders(root)
    name, above = Path(os.path.abspath(root)).name, Path(os.path.abspath(root)).parent
    named = (*_TRAINS, *_VALS, *_TESTS)
    asked = train_dir in present or val_dir in present
    if not asked and not _any_case(present, named) and name.casefold() in _TRAINS and train_dir == TRAIN:
        beside = _folders(above) if os.access(above, os.R_OK | os.X_OK) else ()
        if _any_case(beside, (*_VALS, *_TESTS)):
            notes.append(f"data.root={root} is the training folder itself: taken as data.root={above}")
            root, present, train_dir = above, beside, name
    val = _find(root, val_dir, present, _VALS if val_dir == VAL else ())
    train = _find(root, train_dir, present, _TRAINS if train_dir == TRAIN else ())
    notes += _taken(root, train_dir, train)
    if train is None and train_dir == TRAIN and not _any_case(present, named) and _are_classes(root, present):
        train = root
    tests = _any_case(present, _TESTS) if val_dir == VAL else []
    test = next((root / one for one in tests if _folders(root / one)), None)
    return SplitFolders(root, train, val, test, present, tuple(notes), _taken(root, val_dir, val))


def _taken(root: Path, asked: str, found: Path | None) -> tuple[str, ...]:
    if found is None or found == root / asked:
        return ()
    return (f"data.root={root} has no folder {asked}/: {found.name}/ is taken",)


def as_called(root: Path, splits: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the folders that a training takes for `train` and `val`; those of others as they are."""
    if not root.is_dir():
        return splits
    present = _folders(root)
    others = {TRAIN: _TRAINS, VAL: _VALS}
    found = (_find(root, name, present, others.get(name, ())) for name in splits)
    return tuple(path.name if path is not None else name for path, name in zip(found, splits, strict=True))


def _folders(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(name for name in names_in(folder, folders=True) if not is_litter(name)))


def _find(root: Path, asked: str, present: Iterable[str], others: tuple[str, ...]) -> Path | None:
    if (root / asked).is_dir():
        return root / asked
    return next((root / name for name in _any_case(present, others)), None)


def _any_case(present: Iterable[str], names: tuple[str, ...]) -> list[str]:
    """Those of the folders that have one of these names, in the order of the names."""
    found = [name for name in present if name.casefold() in names]
    return sorted(found, key=lambda name: names.index(name.casefold()))


def _are_classes(root: Path, present: tuple[str, ...]) -> bool:
    """Whether the folders hold pictures, as class folders do: one of the first few is enough."""
    return any(
        name.lower().endswith(EXTENSIONS) and not is_litter(name)
        for one in present[:_LOOKED_INTO]
        for name in names_in(root / one, folders=False)
    )
