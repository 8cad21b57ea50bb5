"""Classes of one place matched to those of another by name: those of data to a model's, of val to train's."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hornet_train.data.sources.listing import preview
from hornet_train.errors import ConfigError, DataError
from hornet_train.tasks.classification.sources.wnids import imagenet_wnids
from hornet_train.untrusted import MAX_LABELS, read_text

_SHOWN = 5  # unknown names that a message lists


@dataclass(frozen=True)
class Matched:
    """What was found.

    Attributes:
        rows: the place of each name among the classes; None where both are the same in the same order.
        absent: classes that have no such name, in their order.
        notes: one sentence for each thing that a user should know of.
    """

    rows: tuple[int, ...] | None = None
    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def match_classes(names: Sequence[str], classes: Sequence[str], *, here: str, there: str) -> Matched:
    """The place of each name among the classes.

    Names that are mere numbers on one side only, such as labels in a table without names, are matched by
    their order if there are equally many; so are ImageNet's 1,000 WordNet ids with names in words, as the hub
    has them.

    Args:
        names: distinct.
        classes: distinct.
        here: where the names are from, for messages: `val`.
        there: where the classes are from: `train`.

    Raises:
        DataError: a name is not among the classes; with the nearest that is.
    """
    if tuple(names) == tuple(classes):
        return Matched()
    places = {name: place for place, name in enumerate(classes)}
    unknown = [name for name in names if name not in places]
    if not unknown:
        return Matched(tuple(places[name] for name in names), _absent(names, classes))
    if are_keys(names) != are_keys(classes) and len(names) == len(classes):
        keys, named = (here, there) if are_keys(names) else (there, here)
        kind = "numbers" if are_numbers(names) or are_numbers(classes) else "WordNet ids"
        note = (
            f"the classes of {keys} are {kind} and those of {named} are names: they are taken in their "
            f"order, {names[0]!r} for {classes[0]!r} and so on; data.class_map=<file> says otherwise"
        )
        return Matched(notes=(note,))
    raise DataError(
        f"{len(unknown)} of the {len(names)} classes of {here} are not among the {len(classes)} of {there} "
        f"({preview(classes)}): {_with_near(unknown, classes)}; rename or remove them, or "
        "data.class_map=<file of lines old,new>"
    )


def are_numbers(names: Sequence[str]) -> bool:
    """Whether all names are mere numbers."""
    return all(name.removeprefix("-").isdecimal() for name in names)


def are_keys(names: Sequence[str]) -> bool:
    """Whether all names are mere numbers, or these are ImageNet's WordNet ids."""
    return are_numbers(names) or tuple(names) == imagenet_wnids()


def _absent(names: Sequence[str], classes: Sequence[str]) -> tuple[str, ...]:
    known = set(names)
    return tuple(name for name in classes if name not in known)


def _with_near(unknown: Sequence[str], classes: Sequence[str]) -> str:
    """The first unknown names, each with the class that is spelt most like it."""
    folded: dict[str, str] = {}
    for name in classes:
        folded.setdefault(name.casefold(), name)
    shown = []
    for name in unknown[:_SHOWN]:
        near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.75)
        shown.append(f"{name!r} ({folded[near[0]]!r}?)" if near else repr(name))
    return ", ".join(shown) + (", ..." if len(unknown) > _SHOWN else "")


def read_renames(path: Path) -> dict[str, str]:
    """What `data.class_map` names: old name -> new name. Several old ones may become one.

    Raises:
        ConfigError: it cannot be read, or is not lines of `old,new`.
    """
    key = f"data.class_map={path}"
    try:
        rows = [
            row for row in csv.reader(read_text(path, MAX_LABELS, encoding="utf-8-sig").splitlines()) if row
        ]
    except OSError as error:
        raise ConfigError([f"{key}: cannot be read ({error.strerror}); check the path"]) from error
    except (ValueError, csv.Error) as error:
        raise ConfigError([f"{key}: {error}; it has lines of old,new"]) from error
    renames: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        cells = [cell.strip() for cell in row]
        if len(cells) != 2 or not all(cells):
            raise ConfigError([f"{key}, line {number}: {','.join(row)!r} is not old,new"])
        if cells[0] in renames:
            raise ConfigError([f"{key}, line {number}: {cells[0]!r} was renamed in a line before"])
        renames[cells[0]] = cells[1]
    if not renames:
        raise ConfigError([f"{key}: it has no line of old,new"])
    return renames


def renamed(names: Sequence[str], renames: Mapping[str, str]) -> tuple[str, ...]:
    """The new name of each; a name that is not in the map stays."""
    return tuple(renames.get(name, name) for name in names)


def unused(renames: Mapping[str, str], *names: Sequence[str]) -> list[str]:
    """A sentence where a map has old names that are in none of these."""
    left = sorted(renames.keys() - {name for some in names for name in some})
    return [f"data.class_map renames {len(left)} classes that are not here ({preview(left)})"] if left else []
