"""Files of a run's data that have gone since it was started: those that were reported as damaged may."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hornet_train.data.sources.files import FileTree
from hornet_train.data.sources.kept_files import keep_files, place_of_list
from hornet_train.data.sources.known_damage import damaged_before
from hornet_train.data.sources.listing import preview
from hornet_train.data.sources.source import Shards
from hornet_train.errors import ConfigError, DataError
from hornet_train.file_names import as_text
from hornet_train.tasks.kit_types import Datasets
from hornet_train.track.durable_files import read_json, write_json
from hornet_train.track.sinks import read_events

_SPLITS = {"train": "training", "val": "held-out"}


@dataclass(frozen=True)
class Gone:
    """What has gone, and may.

    Attributes:
        places: the files' paths, as `Source.locate` gives them, by `as_text`.
        indices: those of the training samples among them that were reported before they went.
        notes: a sentence on each split.
    """

    places: frozenset[str] = frozenset()
    indices: frozenset[int] = frozenset()
    notes: tuple[str, ...] = ()


def listings(run_folder: Path) -> dict[str, Path]:
    """Where a run lists the files of each split."""
    return {split: place_of_list(run_folder, split) for split in _SPLITS}


def list_files(run_folder: Path, datasets: Datasets) -> None:
    """List the files of a run that begins, or goes on with others; and those that have gone, and may.

    Raises:
        ConfigError: the disk refuses.
    """
    for split, files in datasets.files.items():
        place = listings(run_folder)[split]
        try:
            keep_files(files.tree, place)
            if gone := [as_text(os.fsdecode(path)) for path in files.changed.gone]:
                write_json(_gone_list(run_folder), sorted({*_gone_before(run_folder), *gone}))
        except OSError as error:
            raise ConfigError([f"{place} cannot be written ({error.strerror}): make room"]) from error


def gone_files(datasets: Datasets, run_folder: Path, numbers: Mapping[str, Any]) -> Gone:
    """What has gone since the run was started, where nothing is new.

    Args:
        numbers: of the checkpoint from which the run goes on.

    Raises:
        DataError: others have gone than were reported as damaged, by the run or by `hornet-data check`.
    """
    trees = {
        name: tree for name, tree in datasets.files.items() if tree.changed.gone and not tree.changed.new
    }
    if not trees:
        return Gone()
    paths, indices = _reported(run_folder, numbers)
    notes, places = [], set[str]()
    for split, tree in trees.items():
        gone = [as_text(os.fsdecode(path)) for path in tree.changed.gone]
        reported = _with_tails(gone, paths) | damaged_before(tree.folder)
        others = [path for path in gone if path not in reported]
        whole = len(tree)
        what = f"of the {whole:,} {_SPLITS[split]} images"
        if others:
            now = whole - len(gone)
            raise DataError(
                f"this run was trained on other images than are there now ({split}: {whole:,} images -> "
                f"{now:,} images): {len(others):,} have gone that were not reported as damaged "
                f"({preview(others)}); bring them back, or go on with those that are left, in another order, "
                "with resume=force"
            )
        places |= {as_text(str(tree.folder / os.fsdecode(path))) for path in tree.changed.gone}
        stand_in = "others stand in for them" if split == "train" else "evaluations count them as bad"
        notes.append(
            f"{len(gone):,} {what} were reported as damaged and are gone ({preview(gone)}): {stand_in}"
        )
    train = datasets.train
    assert train is not None
    assert not isinstance(train, Shards)
    known = [index for index in indices if 0 <= index < len(train)]
    reported_before = frozenset(index for index in known if as_text(train.locate(index)) in places)
    return Gone(frozenset(places), reported_before, tuple(notes))


def changes_of_files(files: Mapping[str, FileTree]) -> str:
    """Which files have come and gone, in words; nothing where that is not known."""
    words = []
    for split, tree in files.items():
        for what, paths in (("new", tree.changed.new), ("gone", tree.changed.gone)):
            if paths:
                names = [as_text(os.fsdecode(path)) for path in paths[:10]]
                words.append(f"{split}: {len(paths):,} {what} ({preview(names)})")
    return "; ".join(words)


def reported_in_evaluations(metrics: Path) -> set[str]:
    """The paths of the unreadable held-out samples that are in a metrics.jsonl."""
    events = read_events(metrics) if metrics.exists() else []
    return {str(event.get("path")) for event in events if event.get("event") == "bad_eval_sample"}


def _reported(run_folder: Path, numbers: Mapping[str, Any]) -> tuple[list[str], set[int]]:
    """The unreadable samples that events or a checkpoint name: where they were, and training indices."""
    events = run_folder / "metrics.jsonl"
    found = read_events(events) if events.exists() else []
    named = [event for event in found if event.get("event") in ("bad_sample", "bad_eval_sample")]
    unlogged = (numbers.get("unlogged") or {}).get("bad", [])
    paths = _gone_before(run_folder)
    paths += [str(event.get("path")) for event in named] + [str(one.get("where")) for one in unlogged]
    indices = [event.get("index") for event in named] + [one.get("index") for one in unlogged]
    return paths, {index for index in (*indices, *numbers.get("bad_samples", ())) if type(index) is int}


def _gone_list(run_folder: Path) -> Path:
    return run_folder / "files" / "gone.json"


def _gone_before(run_folder: Path) -> list[str]:
    """The files that had gone at an earlier start: events of later steps are taken back at each one."""
    try:
        found = read_json(_gone_list(run_folder))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise DataError(f"{_gone_list(run_folder)} cannot be read ({error}): remove it") from error
    return [str(path) for path in found] if isinstance(found, list) else []


def _with_tails(gone: Iterable[str], paths: Iterable[str]) -> set[str]:
    """Those relative paths with which one of the paths ends: the root may have moved."""
    wanted, found = set(gone), set[str]()
    for path in paths:
        parts = path.split("/")
        found |= wanted.intersection("/".join(parts[k:]) for k in range(len(parts)))
    return found
