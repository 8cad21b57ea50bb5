"""Looking into folders, and naming a few of many in a message."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hornet_train.data.sources.tree import entries
from hornet_train.errors import DataError

_SHOWN = 5  # names a message lists before it only counts


def check_folder(folder: Path, remedy: str, key: str = "") -> None:
    """Refuse what is not a folder that can be looked into.

    Args:
        remedy: what to do where it is none.
        key: what it was given by, such as `data.root=`.

    Raises:
        DataError: says what it is, and what to do.
    """
    try:
        os.stat(os.path.join(folder, "."))
    except FileNotFoundError:
        raise DataError(f"{key}{folder} does not exist; {remedy}") from None
    except NotADirectoryError:
        raise DataError(f"{key}{folder} is not a folder; {remedy}") from None
    except OSError as error:
        why = f"cannot be looked into ({error.strerror})"
        raise DataError(f"{key}{folder} {why}; check its permissions") from error


def names_in(folder: Path, *, folders: bool) -> list[str]:
    """The names of the folders, or of all else, in a folder. Raises DataError where it cannot be listed."""
    try:
        return entries(folder, folders=folders)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error


def preview(names: Sequence[str]) -> str:
    """The first few names, and that there are more."""
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def same_text(names: Sequence[str]) -> list[str]:
    """A fault where two folders' names, as text, are the same: one has the byte that the other writes out."""
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    return [f"two folders are both {name}, one by a byte that is no UTF-8; rename one" for name in twice]


def with_count(count: int, noun: str) -> str:
    """A number and its noun: `1 image`, `1,281,167 images`."""
    ending = "es" if noun.endswith(("s", "x", "ch")) else "s"
    return f"{count:,} {noun}" + ("" if count == 1 else ending)
