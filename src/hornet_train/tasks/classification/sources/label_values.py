"""The classes of labels that are stored as plain values: numbers, text, truth values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hornet_train.data.sources.column_values import ColumnValues
from hornet_train.data.sources.listing import with_count
from hornet_train.errors import DataError
from hornet_train.tasks.classification.sources.class_names import class_names
from hornet_train.tasks.classification.sources.labelled import classes_without
from hornet_train.tasks.classification.sources.match_classes import are_numbers

MOST_CLASSES = 100_000
_FEW_ROWS = 100  # of which each may be of a class of its own
_SHOWN = 6


@dataclass(frozen=True)
class ValueClasses:
    """What the values of a column of labels are.

    Attributes:
        classes: class names in label order.
        labels: the label of each value.
        notes: a sentence where labels are not the numbers that are stored.
    """

    classes: tuple[str, ...]
    labels: Mapping[Any, int]
    notes: tuple[str, ...] = ()

    @property
    def absent(self) -> tuple[str, ...]:
        """The classes that no value is of."""
        return classes_without(self.labels.values(), self.classes)


def too_many(found: ColumnValues) -> bool:
    """Whether a column has more distinct values than classes can be."""
    count = len(found.values)
    return count > MOST_CLASSES or (found.rows > _FEW_ROWS and 2 * count > found.rows)


def are_among(found: ColumnValues, classes: Sequence[str]) -> bool:
    """Whether all values of a column are classes that are known."""
    return bool(found.values) and set(map(_written, found.values)) <= set(classes)


def look_like_classes(found: ColumnValues) -> bool:
    """Whether so few distinct values occur, two at least, and each so often, that these are classes."""
    return 2 <= len(found.values) <= found.rows / 2 and not too_many(found)


def classes_of_values(
    found: ColumnValues,
    where: str,
    *,
    column: str,
    names: Sequence[str] | None,
    given: Sequence[str] | None,
) -> ValueClasses:
    """The classes of a column of labels.

    Integers with names are places among these. Integers from 0 on without a gap are themselves the labels.
    Those of a held-out split are places among names in words, too, if 0 is one of them, which is told: it
    shows that they do not count from 1. All other values are classes in sorted order, called as the values
    are written.

    Args:
        found: what occurs in the column.
        where: the data set, for messages.
        column: its name, for messages.
        names: class names as stored with the labels.
        given: the classes of the training split or a checkpoint, where none are stored.

    Raises:
        DataError: rows have no label, labels are withheld or beyond the names, or there are so many that they
            are no classes.
    """
    values, missing = found.values, found.missing
    if missing:
        raise DataError(
            f"{where}: {missing:,} of {with_count(found.rows, 'row')} have no value in {column}, the column "
            "of the labels; remove them, or choose another with data.label_column=<name>"
        )
    if names is None and given is None and too_many(found):
        raise DataError(
            f"{where}: {column} has {len(values):,} distinct values in {found.rows:,} rows: too many to be "
            "classes; choose another column with data.label_column=<name>, or, if these are classes, make it "
            "a ClassLabel (datasets: class_encode_column)"
        )
    integers = all(type(value) is int for value in values)
    if integers and (names is not None or _are_places(values, given)):
        named = class_names(values, where, names=names, given=given)
        told = names is None and given is not None and not are_numbers(given)
        note = f"{where}: the numbers of {column} are taken as places among the classes, {_first(named)}"
        return ValueClasses(named, {value: value for value in values}, (note,) if told else ())
    own = tuple(map(_written, values))
    place = {name: label for label, name in enumerate(given or ())}
    if given is not None and set(own) <= place.keys():
        return ValueClasses(tuple(given), {v: place[name] for v, name in zip(values, own, strict=True)})
    if own == ("-1",):
        raise DataError(f"{where}: all labels are -1: they are withheld; choose another split")
    note = f"{where}: the {len(own):,} values of {column}, sorted, are the classes: {_first(own)}"
    return ValueClasses(own, {value: label for label, value in enumerate(values)}, (note,))


def _first(classes: Sequence[str]) -> str:
    shown = ", ".join(f"{label} is {name}" for label, name in enumerate(classes[:_SHOWN]))
    return shown + (f", ... {len(classes) - 1} is {classes[-1]}" if len(classes) > _SHOWN else "")


def _written(value: Any) -> str:
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def _are_places(values: Sequence[int], given: Sequence[str] | None) -> bool:
    """Whether integers are labels as they are."""
    if given is None or not values:
        return list(values) == list(range(len(values)))
    if are_numbers(given):
        within = values[0] >= 0 and values[-1] < len(given)
        return within and tuple(given) == tuple(map(str, range(len(given))))
    return values[0] == 0
