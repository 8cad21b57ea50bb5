"""Paths in the overrides of a sweep, with any characters, also those that mean something to Hydra."""

from __future__ import annotations

import os
import re

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString

from hornet_train.config.overrides import path_value

_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"")
_PLAIN = re.compile(r"[^,'\"]*")
_WORDS = re.compile(r"[./]*[A-Za-z_][\w./-]*", re.ASCII)  # text to Hydra, but for _VALUES
_VALUES = ("null", "true", "false", "nan", "inf")


def as_hydra_reads(key: str, value: str) -> str:
    """`key=value` of a path, or of several with commas between them, such that Hydra takes each as it is.

    A text with commas is one path where there is such a file or folder, also within a list; otherwise each
    comma separates two values. Quotes around a value make it one path in any case.

    Raises:
        ConfigError: the environment lacks a variable that stands in it.
    """
    paths = [path_value(key, one) for one in _values(value)]
    return f"{key}={','.join('null' if path is None else _written(path) for path in paths)}"


def as_typed(text: str, paths: frozenset[str]) -> str:
    """An override of a job, as Hydra gives it, as a user would type it: a path without the quotes."""
    key, _, value = text.partition("=")
    if key.lstrip("+") not in paths or value == "null":
        return text
    return f"{key}={OverridesParser.create().parse_override(text).value()}"


def quoted(text: str) -> str:
    """A text of any characters as one value in Hydra's grammar."""
    written: str = QuotedString(text=text, quote=Quote.single).with_quotes()
    return written


def _written(path: str) -> str:
    """A path as one value; without quotes if it needs none: it is the name of a job's folder, too."""
    return path if _WORDS.fullmatch(path) and path.casefold() not in _VALUES else quoted(path)


def _values(value: str) -> list[str]:
    """The values in a text with commas: those that somebody has quoted, or the longest that are there."""
    if given := _in_quotes(value):
        return given
    parts, found = value.split(","), []
    while parts:
        ends = range(len(parts), 1, -1)
        length = next((end for end in ends if _is_there(",".join(parts[:end]))), 1)
        found.append(",".join(parts[:length]))
        parts = parts[length:]
    return found


def _in_quotes(value: str) -> list[str]:
    """The values of a list in which at least one is in quotes, and each is either in quotes or without any;
    empty for any other text, as `it's, here`."""
    found, place = [], 0
    while True:
        match = _QUOTED.match(value, place) or _PLAIN.match(value, place)
        assert match is not None
        found.append(match[0])
        place = match.end()
        if place == len(value):
            break
        if value[place] != ",":
            return []
        place += 1
    return found if any(one[:1] in ("'", '"') for one in found) else []


def _is_there(path: str) -> bool:
    return os.path.exists(os.path.expanduser(os.path.expandvars(path)))
