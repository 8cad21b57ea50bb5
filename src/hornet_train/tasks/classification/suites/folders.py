"""Class folders all of which must be there: an accuracy over fewer classes would compare with none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hornet_train.data.sources.listing import check_folder, preview
from hornet_train.data.sources.litter import is_litter
from hornet_train.errors import DataError
from hornet_train.tasks.classification.sources import FolderSource


def whole_set(folder: Path, names: Sequence[str], what: str) -> FolderSource:
    """The images in `folder/<name>/`, label i those of `names[i]`, however the names sort.

    Args:
        folder: the set.
        names: of its class folders, in label order.
        what: the set's name, for messages.

    Raises:
        DataError: folders that are missing or too many, or without images.
    """
    if fault := folder_fault(folder, names, what):
        raise DataError(fault)
    return FolderSource(folder.parent, folder.name, names)


def folder_fault(folder: Path, names: Sequence[str], what: str) -> str | None:
    """What is wrong with a set's class folders, in a sentence; None for nothing."""
    try:
        check_folder(folder, f"it should be the folder of {what} (data.root)")
        found = {entry.name for entry in folder.iterdir() if entry.is_dir() and not is_litter(entry.name)}
    except DataError as error:
        return str(error)
    except OSError as error:
        return f"{folder}: cannot be listed ({error.strerror}); check its permissions"
    faults = []
    if missing := [name for name in names if name not in found]:
        faults.append(f"{len(missing)} missing ({preview(missing)})")
    if unexpected := sorted(found - set(names)):
        faults.append(f"{len(unexpected)} unexpected ({preview(unexpected)})")
    if not faults:
        return None
    return (
        f"{folder}: not the {len(names)} class folders {names[0]} .. {names[-1]} of {what}: "
        f"{'; '.join(faults)}; unpack the complete set, and give its folder as data.root"
    )
