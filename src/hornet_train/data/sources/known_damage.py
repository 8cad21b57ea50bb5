"""Damaged files that `hornet-data check` has found, in the cache folder: a run may go on without them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

from hornet_train.data.sources.cache import place_of
from hornet_train.file_names import as_text
from hornet_train.track.durable_files import read_json, write_json

_MOST = 100_000  # more are not kept
_log = logging.getLogger("hornet_train")


def remember_damaged(folder: Path, paths: Iterable[bytes]) -> None:
    """Add to the damaged files of a folder; a cache that cannot be written is warned of.

    Args:
        paths: relative to the folder.
    """
    found = {as_text(os.fsdecode(path)) for path in paths}
    place = _place(folder)
    if not found:
        return
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, sorted({*damaged_before(folder), *found})[:_MOST])
    except OSError as error:
        _log.warning("the damaged files of %s are not kept in %s (%s)", folder, place, error.strerror)


def damaged_before(folder: Path) -> set[str]:
    """The files of a folder that were found damaged on this machine, relative to it, by `as_text`."""
    try:
        found = read_json(_place(folder))
    except (OSError, ValueError):  # none, or not ours to mend
        return set()
    return {str(path) for path in found} if isinstance(found, list) else set()


def _place(folder: Path) -> Path:
    return place_of("damaged", os.fsencode(os.path.realpath(folder))).with_suffix(".json")
