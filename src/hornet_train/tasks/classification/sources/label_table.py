"""A table of pictures and their labels: a text file with columns of commas, semicolons or tabs."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hornet_train.data.sources.listing import preview
from hornet_train.errors import DataError, did_you_mean
from hornet_train.images.formats import EXTENSIONS
from hornet_train.untrusted import MAX_TABLE, read_within

Part = Literal["train", "val", "test"]
Kind = Literal["image", "label", "split"]

_NAMES: dict[Kind, tuple[str, ...]] = {  # of columns, in lower case, without blanks, dashes and underscores
    "image": (
        *("file", "files", "path", "paths", "image", "images", "filename", "filenames", "filepath"),
        *("filepaths", "imagefile", "imagename", "imagepath", "img", "imgfile", "imgname", "imgpath"),
        *("picture", "photo"),
    ),
    "label": ("label", "labels", "class", "classes", "classname", "category", "labelname", "target"),
    "split": ("split", "set", "subset", "dataset", "partition"),
}
_PARTS: dict[str, Part] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_DELIMITERS = "\t;,"  # of those that fit as many lines the first: a file's name may have a comma
_SHOWN = 8  # faults that a message lists
_LOOKED_AT = 100  # lines by which the delimiter is found


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table: a file as it is written there, its label, and which part of the data it is of."""

    line: int
    file: str
    label: str
    part: Part | None


@dataclass(frozen=True)
class Columns:
    """Names of columns that are given, where they are not the usual ones (None)."""

    image: str | None = None
    label: str | None = None
    split: str | None = None


def read_label_table(path: Path, columns: Columns = Columns()) -> list[Row]:
    """The rows of a table.

    A first line that names the columns is recognised by usual names; without one, there are two or three
    columns: file, label, split (or label, file).

    Args:
        path: of the file: UTF-8, or UTF-16 with a byte order mark, as Excel writes it.
        columns: names that are given.

    Raises:
        DataError: it cannot be read, has no such columns, or lines that cannot be used: all at once, with
            their numbers.
    """
    key = f"data.file={path}"
    lines = _lines(path, key)
    first = next(lines, None)
    if first is None:
        raise DataError(f"{key}: it is empty; it has lines of file,label")
    places, is_header = _places(first[1], columns, key)
    width = len(first[1])
    faults: list[str] = []
    rows: list[Row] = []
    met: dict[str, int] = {}
    for number, cells in _after(first, lines, skip=is_header):
        if len(cells) != width:
            faults.append(f"line {number}: {len(cells)} columns, not {width}")
            continue
        file, label = cells[places["image"]], cells[places["label"]]
        said = cells[places["split"]] if "split" in places else None
        if not file or not label:
            faults.append(f"line {number}: no {'label' if file else 'file'}")
        elif "\0" in file:
            faults.append(f"line {number}: a zero byte in the name of a file")
        elif said is not None and said.casefold() not in _PARTS:
            faults.append(f"line {number}: {said!r} is not train, val or test")
        elif (before := met.setdefault(os.path.normpath(file), number)) != number:
            faults.append(f"line {number}: {file!r} was listed in line {before}")
        else:
            rows.append(Row(number, file, label, _PARTS[said.casefold()] if said is not None else None))
    if faults:
        more = f"\n  and {len(faults) - _SHOWN:,} more" if len(faults) > _SHOWN else ""
        listed = "".join(f"\n  {fault}" for fault in faults[:_SHOWN])
        raise DataError(f"{key}: {len(faults):,} lines cannot be used; mend or remove them:{listed}{more}")
    if not rows:
        raise DataError(f"{key}: it has no line but that of the names of its columns")
    return rows


def _after(
    first: tuple[int, list[str]], lines: Iterator[tuple[int, list[str]]], *, skip: bool
) -> Iterator[tuple[int, list[str]]]:
    if not skip:
        yield first
    yield from lines


def _lines(path: Path, key: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of each line that is not blank, with its number, counted from 1."""
    try:
        data = read_within(path, MAX_TABLE)
        encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        text = data.decode(encoding)
    except OSError as error:
        raise DataError(f"{key}: cannot be read ({error.strerror}); check the path") from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"{key}: line {line} is not UTF-8 (byte {data[error.start]:#x}); save it as CSV in UTF-8"
        ) from error
    except ValueError as error:
        raise DataError(f"{key}: {error}") from error
    lines = list(io.StringIO(text, newline=None))  # whatever ends them
    delimiter = max(_DELIMITERS, key=lambda one: _fitting(lines[:_LOOKED_AT], one))
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    number = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{key}, line {number}: {error}; are its quotes closed?") from error
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield number, [cell.strip() for cell in cells]
        number = reader.line_num + 1


def _fitting(lines: Sequence[str], delimiter: str) -> int:
    """How many lines have as many columns as the first has, if these are several."""
    try:
        rows = [row for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if row]
    except csv.Error:
        return 0
    return sum(len(row) == len(rows[0]) > 1 for row in rows) if rows else 0


def _places(first: Sequence[str], columns: Columns, key: str) -> tuple[dict[Kind, int], bool]:
    """The place of each kind of column, and whether the first line names them."""
    given: dict[Kind, str | None] = {
        "image": columns.image,
        "label": columns.label,
        "split": columns.split,
    }
    pictures = [place for place, cell in enumerate(first) if cell.lower().endswith(EXTENSIONS)]
    if pictures and len(first) in (2, 3) and not any(given.values()):  # a line like all others
        image = 1 if pictures == [1] else 0
        return {"image": image, "label": 1 - image, **({"split": 2} if len(first) == 3 else {})}, False
    bare = ["".join(letter for letter in cell.casefold() if letter not in " -_") for cell in first]
    places: dict[Kind, int] = {}
    faults = []
    for kind, name in given.items():
        found = [place for place, cell in enumerate(bare) if cell in _NAMES[kind]]
        if name is not None and name not in first:
            faults.append(f"data.{kind}_column={name}: no such column; {did_you_mean(name, first)}")
        elif name is not None:
            places[kind] = first.index(name)
        elif len(found) > 1:
            names = " and ".join(first[place] for place in found)
            faults.append(
                f"the columns {names} could each be the {kind}: data.{kind}_column={first[found[0]]}"
            )
        elif found:
            places[kind] = found[0]
    missing: list[Kind] = [kind for kind in ("image", "label") if kind not in places]
    if len(first) < 2:
        faults = ["it has a single column; columns are separated by commas, semicolons or tabs"]
    elif len(missing) == 1 and len(left := set(range(len(first))) - set(places.values())) == 1:
        (places[missing[0]],) = left
    elif missing and not faults:
        keys = " and ".join(f"data.{kind}_column=<name>" for kind in missing)
        faults = [f"which of its columns ({preview(list(first))}) is the {' and the '.join(missing)}? {keys}"]
    if faults:
        raise DataError(f"{key}: {'; '.join(faults)}")
    return places, True


def relative_path(file: str, root: Path) -> str | None:
    """A file of a table as a path relative to the root; None where it is not below it.

    Links are not resolved: like those in class folders, they are the user's.
    """
    if not {"", ".", ".."}.intersection(file.split("/")):  # as most are: below the root as they stand
        return file
    path = os.path.normpath(os.path.join(root, file))
    inside = os.path.relpath(path, root)
    return None if inside == os.pardir or inside.startswith(f"{os.pardir}{os.sep}") else inside
