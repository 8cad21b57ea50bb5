"""Which pictures a command line means: files, folders, patterns, lists in text or CSV, standard input."""

from __future__ import annotations

import csv
import glob
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hornet_train.data.sources.listing import with_count
from hornet_train.data.sources.litter import is_litter
from hornet_train.data.sources.packed import PackedPaths
from hornet_train.data.sources.source import Encoded, Fields, sha256_of
from hornet_train.errors import DataError
from hornet_train.file_names import as_text, file_name
from hornet_train.images.decode import MAX_BYTES, read_bytes
from hornet_train.images.formats import EXTENSIONS, FORMATS, format_of
from hornet_train.untrusted import Refused, read_within

STDIN = "-"
_LISTS = (".csv", ".tsv", ".txt")
_COLUMNS = ("path", "file", "filename", "file_name", "image", "image_path", "filepath")
_VIDEOS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp")
_START = 32  # bytes of a file that say what it is


@dataclass
class PictureList:
    """Pictures by their paths, in order, each once; a `Source` of the one field `image`.

    Attributes:
        notes: one sentence for each thing that a user should know of.
        content: of a picture from standard input, which has no path.
        folders: those that were searched.
    """

    notes: list[str] = field(default_factory=list)
    content: bytes | None = None
    folders: list[Path] = field(default_factory=list)
    _paths: PackedPaths = field(default_factory=PackedPaths)

    def __len__(self) -> int:
        return len(self._paths)

    def locate(self, index: int) -> str:
        """See `Source`: the path as it was given or found."""
        return os.fsdecode(self._paths[index])

    def read(self, index: int) -> Fields:
        """See `Source`."""
        where = self.locate(index)
        if where == STDIN and self.content is not None:
            return {"image": Encoded(self.content, "standard input")}
        return {"image": Encoded(read_bytes(where), where)}

    @property
    def fingerprint(self) -> str:
        """See `Source`."""
        return sha256_of(self._paths.block())

    def names(self) -> list[str]:
        """What each picture is called below the folder that holds all of them, without its suffix; with it
        where several would be called the same."""
        folders = {os.path.dirname(os.path.abspath(self.locate(index))) for index in range(len(self))}
        top = os.path.commonpath(folders) if folders else ""
        found = [os.path.relpath(os.path.abspath(self.locate(index)), top) for index in range(len(self))]
        stems = [os.path.splitext(path)[0] for path in found]
        counts = Counter(stem.casefold() for stem in stems)
        return [
            path if counts[stem.casefold()] > 1 else stem for path, stem in zip(found, stems, strict=True)
        ]


def find_pictures(given: Sequence[str], stdin: Callable[[], bytes]) -> PictureList:
    """The pictures that a command line means, in its order; those of a folder sorted by name.

    Args:
        given: paths of pictures; folders, which are searched to the bottom; patterns with `*`, `?`, `[...]`
            or `**`; .txt, .csv and .tsv files that list paths; `-` for standard input, which is one picture
            or a list of paths, a line each or with a NUL after each.
        stdin: reads standard input.

    Raises:
        DataError: there is no such file or folder, one is no picture, or there are none at all.
    """
    if not given:
        raise DataError(f"no pictures are given: name files, folders, patterns, a .csv, or {STDIN} for stdin")
    found, seen = PictureList(), set[str]()
    repeated, passed = 0, Counter[str]()
    for path in _each(given, stdin, found, passed):
        key = path if path == STDIN else os.path.abspath(path)
        if key in seen:
            repeated += 1
            continue
        seen.add(key)
        found._paths.append(os.fsencode(path))
    if repeated:
        found.notes.append(f"{with_count(repeated, 'picture')} given more than once: each is answered once")
    if passed:
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in passed.most_common(5))
        found.notes.append(f"{with_count(passed.total(), 'other file')} in the folders passed over: {kinds}")
    if not len(found):
        raise DataError(f"there are no pictures in {' '.join(map(as_text, given))}: {_known()}")
    return found


def _known() -> str:
    return f"files of {', '.join(FORMATS)} are looked for, by their suffixes"


def _each(
    given: Iterable[str], stdin: Callable[[], bytes], found: PictureList, passed: Counter[str]
) -> Iterator[str]:
    """The paths, one after the other. `passed`: suffixes of what is no picture in folders."""
    for one in given:
        if one == STDIN:
            yield from _from_stdin(stdin(), found)
            continue
        path = os.path.expanduser(one)
        if not os.path.lexists(path) and glob.has_magic(path):
            matches = sorted(glob.glob(path, recursive=True))
            if not matches:
                raise DataError(f"{one}: no file matches this pattern")
            named = path.split(os.sep)
            for match in matches:
                if os.path.isdir(match) or any(
                    is_litter(part) and part not in (*named, ".", "..") for part in match.split(os.sep)
                ):
                    continue
                if match.lower().endswith(EXTENSIONS):
                    yield match
                else:
                    passed[_kind(match)] += 1
        elif os.path.isdir(path):
            found.folders.append(Path(path))
            yield from _in_folder(path, passed)
        elif path.lower().endswith(_LISTS):
            yield from _in_list(path)
        else:
            _check_picture(path)
            yield path


def _check_picture(path: str) -> None:
    """Make sure that a file which is named itself is a picture, or at least looks like one.

    Raises:
        DataError: there is none, or it is something else.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(_START)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if path.lower().endswith(_VIDEOS):
        raise DataError(
            f"{path} is a video, which is not read: save its frames as pictures first, "
            "with ffmpeg -i VIDEO frames/%06d.jpg, say"
        )
    if not path.lower().endswith(EXTENSIONS) and format_of(start) is None:
        raise DataError(f"{path} is no picture: {', '.join(FORMATS)} are read")


def _in_folder(folder: str, passed: Counter[str]) -> Iterator[str]:
    """Every picture of a folder and of those in it.

    Raises:
        DataError: a folder cannot be listed, or leads back into itself.
    """

    def unreadable(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be listed ({error.strerror}); check its permissions")

    met: dict[tuple[int, int], str] = {}
    for place, below, files in os.walk(folder, onerror=unreadable, followlinks=True):
        status = os.stat(place)
        if (first := met.setdefault((status.st_dev, status.st_ino), place)) != place:
            raise DataError(f"{place} is {first} once more, by a symbolic link; remove the link")
        below[:] = sorted(name for name in below if not is_litter(name))
        for name in sorted(files):
            if is_litter(name):
                continue
            if name.lower().endswith(EXTENSIONS):
                yield os.path.join(place, name)
            else:
                passed[_kind(name)] += 1


def _kind(name: str) -> str:
    suffix = os.path.splitext(name)[1].lower()
    return f"video ({suffix})" if suffix in _VIDEOS else suffix or "without a suffix"


def _in_list(path: str) -> Iterator[str]:
    """The paths that a .txt, .csv or .tsv lists; relative ones start from its folder, or from here.

    Raises:
        DataError: it cannot be read, or no column of it is known to be one of paths.
    """
    try:
        content = read_within(path, MAX_BYTES)
    except Refused as error:
        raise DataError(f"{path}: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    text = _text(content, path)
    if path.lower().endswith(".txt"):
        listed = _lines(text)
    else:
        listed = _column(text, path, "\t" if path.lower().endswith(".tsv") else ",")
    folder = os.path.dirname(path)
    for one in listed:
        beside = os.path.join(folder, one)
        yield beside if os.path.lexists(beside) or not os.path.lexists(one) else one


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{where} is no text in UTF-8, and so no list of paths") from error


def _lines(text: str) -> list[str]:
    return [file_name_of(line) for line in text.splitlines() if line.strip()]


def file_name_of(line: str) -> str:
    r"""A path as a list has it; `\xf6` stands for a byte that is no UTF-8, unless a file is called so."""
    name = os.path.expanduser(line.strip())
    return name if os.path.lexists(name) else file_name(name)


def _column(text: str, path: str, delimiter: str) -> list[str]:
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if any(map(str.strip, row))]
    if not rows:
        return []
    heads = [cell.strip().casefold() for cell in rows[0]]
    place = next((heads.index(name) for name in _COLUMNS if name in heads), None)
    if place is not None:
        return [file_name_of(row[place]) for row in rows[1:] if len(row) > place and row[place].strip()]
    if heads[0].endswith(EXTENSIONS):  # no header
        return [file_name_of(row[0]) for row in rows if row[0].strip()]
    raise DataError(
        f"{path} has no column of paths: call it {_COLUMNS[0]} (there are {', '.join(rows[0])}), or leave "
        "out the header and put the paths first"
    )


def _from_stdin(content: bytes, found: PictureList) -> Iterator[str]:
    """What standard input holds: one picture, or paths."""
    if not content:
        raise DataError("standard input is empty: it takes one picture or a list of paths")
    if format_of(content[:_START]) is not None:
        found.content = content
        yield STDIN
        return
    try:
        paths = _lines(_text(content.replace(b"\0", b"\n"), "standard input"))
    except DataError as error:
        raise DataError("standard input is neither a picture nor a list of paths in UTF-8") from error
    yield from paths
