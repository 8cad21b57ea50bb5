"""The classes of masks: their names, and their colours where masks are in colours."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hornet_train.errors import ConfigError, DataError
from hornet_train.images.layout import RGB
from hornet_train.untrusted import MAX_LABELS, Refused, read_text

_HEX = re.compile(r"#([0-9a-fA-F]{6})")
_COLOUR = re.compile(
    r"(?P<name>.*?)[\s,;]+(?:#(?P<hex>[0-9a-fA-F]{6})|(?P<rgb>\d{1,3}[\s,;]+\d{1,3}[\s,;]+\d{1,3}))"
)


@dataclass(frozen=True)
class Classes:
    """Names in the order of the labels, and colours where there are any."""

    names: tuple[str, ...]
    colours: tuple[RGB, ...] | None = None


def read_classes(path: Path) -> Classes:
    """Classes of a text file, one a line: `road`, or with the colour that stands for it in masks,
    `road,#804080` or `road 128 64 128`. Empty lines count for nothing.

    Raises:
        DataError: it cannot be read, only some lines have a colour, or a name or colour is there twice.
    """
    try:
        lines = [line.strip() for line in read_text(path, MAX_LABELS, encoding="utf-8-sig").splitlines()]
    except Refused as error:
        raise DataError(f"{path}: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is no text in UTF-8") from error
    lines = [line for line in lines if line]
    found = [_COLOUR.fullmatch(line) for line in lines]
    if not lines:
        raise DataError(f"{path}: names no class")
    names = [one["name"].strip() if one else line for line, one in zip(lines, found, strict=True)]
    colours = [_colour_of(one) for one in found if one is not None]
    if colours and len(colours) < len(lines):
        bare = next(line for line, one in zip(lines, found, strict=True) if one is None)
        raise DataError(
            f"{path}: {bare!r} has no colour, and other lines have: give all of them one, or none"
        )
    for what, counts in (("name", Counter(names)), ("colour", Counter(colours))):
        if twice := [one for one, count in counts.items() if count > 1]:
            raise DataError(f"{path}: the {what} {twice[0]} is there twice")
    if any(max(colour) > 255 for colour in colours):
        raise DataError(f"{path}: a colour has a value above 255")
    return Classes(tuple(names), tuple(colours) if colours else None)


def split_ignored(given: Sequence[int | str]) -> tuple[tuple[int, ...], tuple[RGB, ...]]:
    """(stored values, colours) of `data.ignore`.

    Raises:
        ConfigError: one is neither a byte nor a colour.
    """
    values, colours = list[int](), list[RGB]()
    for one in given:
        if isinstance(one, int) and 0 <= one <= 255:
            values.append(one)
        elif isinstance(one, str) and (found := _HEX.fullmatch(one)):
            colours.append(_of_hex(found[1]))
        else:
            raise ConfigError([f"data.ignore={one}: a value of 0..255, or a colour as in '#000000'"])
    return tuple(values), tuple(colours)


def _colour_of(found: re.Match[str]) -> RGB:
    if found["hex"]:
        return _of_hex(found["hex"])
    red, green, blue = map(int, re.split(r"[\s,;]+", found["rgb"]))
    return red, green, blue


def _of_hex(text: str) -> RGB:
    red, green, blue = bytes.fromhex(text)
    return red, green, blue
