"""What the program needs to know of a config key besides its type, written in the annotation of its field.

    root: Annotated[str | None, Key(path=True, neutral=True)]

The lists that the commands work with (which keys are paths, which may change between two starts) are found by
walking a schema, so no list has to be kept in step with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, get_args

from pydantic.dataclasses import is_pydantic_dataclass
from pydantic.fields import FieldInfo


@dataclass(frozen=True)
class Key:
    """Properties of a key. A field that a subclass declares again, with a narrower type, keeps those it had.

    Attributes:
        path: a file or folder. The command line takes it literally: no quotes are needed around blanks,
            commas or equals signs, and a leading ~ is the home folder.
        comma_list: `key=a,b,c` is a list of three, not one job of a sweep for each.
        free: a mapping whose keys are not known here: arguments of another library.
        neutral: may differ between the starts of one run; all other keys say what the run computes.
        training_only: an evaluation does not read it, so hornet-eval refuses it.
        no_cost: what hornet-info counts does not depend on it.
        preprocessing: how an image becomes the model's input. An evaluation takes it from the checkpoint,
            also where it is of other data.
        how_read: says how samples are read. The other keys of `data` say which samples these are.
        names_option: its value is the name of the option of its group with which a stored config was made.
        evaluation_only: its values name data that are for evaluation, which hornet-train refuses.
        selects_data: the option of `data` that stands where this key of hornet-eval has a value.
        absent: (value,) of a key that is younger than stored configs: what those without it mean.
    """

    path: bool = False
    comma_list: bool = False
    free: bool = False
    neutral: bool = False
    training_only: bool = False
    no_cost: bool = False
    preprocessing: bool = False
    how_read: bool = False
    names_option: bool = False
    evaluation_only: bool = False
    selects_data: str | None = None
    absent: tuple[Any, ...] = ()


def walk(group: type, prefix: str = "") -> Iterator[tuple[str, Key, FieldInfo]]:
    """Every dotted key below a group, with its properties and its field.

    A key that several alternatives of a group have (`data.root`) comes once for each of them.
    """
    for name, field in _fields_of(group).items():
        key = f"{prefix}{field.alias or name}"
        yield key, _properties(group, name), field
        for alternative in _groups_in(field.annotation):
            yield from walk(alternative, f"{key}.")


def keys_where(group: type, holds: Callable[[Key], object]) -> frozenset[str]:
    """The dotted keys below a group whose properties fulfil a condition, in any of the alternatives."""
    return frozenset(key for key, properties, _ in _walked(group) if holds(properties))


@cache
def _walked(group: type) -> tuple[tuple[str, Key, FieldInfo], ...]:
    return tuple(walk(group))


def _fields_of(group: type) -> dict[str, FieldInfo]:
    found: dict[str, FieldInfo] = vars(group)["__pydantic_fields__"]
    return found


def _groups_in(annotation: Any) -> Iterator[type]:
    """The groups that a type names: itself, or the members of a union."""
    if isinstance(annotation, type) and is_pydantic_dataclass(annotation):
        yield annotation
    for argument in get_args(annotation):
        yield from _groups_in(argument)


def _properties(group: type, name: str) -> Key:
    """What the class and its base classes say of a field, taken together."""
    stated = [
        one
        for base in group.__mro__
        if is_pydantic_dataclass(base) and name in _fields_of(base)
        for one in _fields_of(base)[name].metadata
        if isinstance(one, Key)
    ]
    merged = Key()
    for key in reversed(stated):
        merged = replace(merged, **{name: value for name, value in vars(key).items() if value})
    return merged
