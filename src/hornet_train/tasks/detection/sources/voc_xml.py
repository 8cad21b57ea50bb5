"""Pascal VOC's XML: a file of boxes for each picture.

Its pixels are counted from 1, and a box's last pixel belongs to it: left and top are one less here, right and
bottom as they are.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from hornet_train.data.sources.listing import check_folder, names_in, preview
from hornet_train.data.sources.split_names import find_split
from hornet_train.errors import DataError
from hornet_train.images.formats import EXTENSIONS
from hornet_train.tasks.detection.boxes import unusable
from hornet_train.tasks.detection.objects import Annotation, TableBuilder
from hornet_train.tasks.detection.sources.annotated import Annotated, Category, Findings
from hornet_train.untrusted import read_within

_XML = ".xml"
_MAX_XML = 10**7  # bytes of a file; usual ones have 2 kB
_MAX_LIST = 64 * 10**6
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True)
class VocFiles:
    """The files of a split.

    Attributes:
        annotations: the folder of the XML files.
        pictures: the folder of the pictures.
        stems: names of either, without extension, in order.
        where: what lists them.
    """

    annotations: Path
    pictures: Path
    stems: tuple[str, ...]
    where: str


def find(root: Path, split: str) -> VocFiles | None:
    """A split as VOC has it, `ImageSets/Main/train.txt`; or a folder `train` with both kinds of files.

    Args:
        root: VOC2012, VOCdevkit with one year in it, or anyone's folder.
        split: as the list is called; "" for every XML file in `Annotations`, or in the root itself.

    Returns:
        None where there is none of this split.

    Raises:
        DataError: no such root, a list that cannot be read, or a root that holds nothing of the kind.
    """
    check_folder(root, "set data.root= to the folder that holds Annotations/ and JPEGImages/", "data.root=")
    years = [name for name in names_in(root, folders=True) if name.startswith("VOC20")]
    if len(years) > 1:
        raise DataError(
            f"{root} holds several years ({preview(sorted(years))}): data.root={root / years[0]}, say"
        )
    root = root / years[0] if years else root
    folders = names_in(root, folders=True)
    if "Annotations" in folders:
        annotations = root / "Annotations"
        pictures = root / ("JPEGImages" if "JPEGImages" in folders else "images")
        if not split:
            return VocFiles(annotations, pictures, _stems(annotations), str(annotations))
        listed = root / "ImageSets" / "Main" / f"{split}.txt"
        if not listed.is_file():
            return None
        return VocFiles(annotations, pictures, _listed(listed), str(listed))
    own = find_split(split, folders) if split else None
    folder = root / own if own is not None else root
    if split and own is None:
        return None
    stems = _stems(folder)
    return VocFiles(folder, folder, stems, str(folder)) if stems else None


def _stems(folder: Path) -> tuple[str, ...]:
    names = names_in(folder, folders=False)
    return tuple(sorted(name[: -len(_XML)] for name in names if name.lower().endswith(_XML)))


def _listed(path: Path) -> tuple[str, ...]:
    """The names in a list, one a line; what may stand behind a name is not read."""
    try:
        text = read_within(path, _MAX_LIST).decode()
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read ({error})") from error
    found = tuple(line.split()[0] for line in text.splitlines() if line.strip())
    if not found:
        raise DataError(f"{path} lists no pictures")
    if outside := next((name for name in found if "/" in name or name.startswith(".")), None):
        raise DataError(f"{path}: {outside} is no name of a picture")
    return found


def read_voc(files: VocFiles) -> tuple[Annotated, list[bytes]]:
    """Read the boxes of a split; the pictures' paths within their folder.

    Classes are those that come, in alphabetical order, which is VOC's own.

    Raises:
        DataError: a file is missing or damaged, or lists no object at all.
    """
    findings = Findings()
    read = [_read(_path(files.annotations / stem), findings) for stem in files.stems]
    names = sorted({name for _, objects in read for name, _, _ in objects})
    if not names:
        raise DataError(f"{files.where}: no file lists an object")
    labels = {name: label for label, name in enumerate(names)}
    builder, number = TableBuilder(), 0
    for _, objects in read:
        found = []
        for name, box, crowd in objects:
            number += 1
            found.append(Annotation(box, labels[name], crowd, box[2] * box[3], number))
        builder.add(found)
    paths = _pictures(files)
    return (
        Annotated(
            files.where,
            [os.fsdecode(path) for path in paths],
            list(range(1, len(read) + 1)),
            [size for size, _ in read],
            builder.table(),
            tuple(Category(label + 1, name) for name, label in labels.items()),
            findings,
        ),
        paths,
    )


_Object = tuple[str, tuple[float, float, float, float], bool]  # class, box, whether it is difficult


def _path(stem: Path) -> Path:
    """The XML file of a picture, whose extension may be in capitals."""
    usual = stem.with_name(stem.name + _XML)
    capitals = stem.with_name(stem.name + _XML.upper())
    return capitals if capitals.exists() and not usual.exists() else usual


def _read(path: Path, findings: Findings) -> tuple[tuple[int, int], list[_Object]]:
    """(height, width) of a picture, and its objects. Difficult ones are crowds: they are not trained on."""
    try:
        content = read_within(path, _MAX_XML)
        if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            raise DataError(f"{path} declares entities, which no annotation needs: it is not read")
        root = ElementTree.fromstring(content)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): each picture has an XML file") from error
    except (ValueError, ElementTree.ParseError) as error:
        raise DataError(f"{path} is no XML ({error}): it is damaged, or breaks off") from error
    size = (_pixels(root.findtext("size/height")), _pixels(root.findtext("size/width")))
    found = []
    for place, one in enumerate(root.iter("object")):
        name, where = (one.findtext("name") or "").strip(), f"{path.name} object {place + 1}"
        corners = [_number(one.findtext(f"bndbox/{corner}")) for corner in _CORNERS]
        if not name:
            findings.drop("it has no name", where)
        elif any(value is None for value in corners):
            findings.drop("its bndbox is not four numbers", where)
        else:
            left, top, right, bottom = (value for value in corners if value is not None)
            box = (left - 1, top - 1, right - left + 1, bottom - top + 1)
            if 0 not in size and (why := unusable(box, size)):
                findings.mend(f"{why}, not trained on", where)
            found.append((name, box, (one.findtext("difficult") or "0").strip() == "1"))
    return size, found


def _pixels(text: str | None) -> int:
    """A side of a picture; 0 where it is not known."""
    return int(text) if text is not None and text.strip().isdecimal() else 0


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) and abs(value) < 1e7 else None


def _pictures(files: VocFiles) -> list[bytes]:
    """The paths of pictures in their folder."""
    check_folder(files.pictures, "it holds the pictures")
    present: dict[str, str] = {}
    for name in names_in(files.pictures, folders=False):
        stem, extension = os.path.splitext(name)
        if extension.lower() in EXTENSIONS:
            present.setdefault(stem, name)
    if missing := [stem for stem in files.stems if stem not in present]:
        raise DataError(
            f"{len(missing):,} of {len(files.stems):,} pictures are not in {files.pictures}: "
            f"{preview(missing)}; fetch them, or take them off the list"
        )
    return [os.fsencode(present[stem]) for stem in files.stems]


def same_classes(*found: Annotated) -> list[Annotated]:
    """The same with one list of classes: those of either, in alphabetical order."""
    names = sorted({one.name for read in found for one in read.categories})
    categories = tuple(Category(label + 1, name) for label, name in enumerate(names))
    return [
        Annotated(
            *(read.where, read.names, read.numbers, read.sizes),
            read.objects.relabelled(_places(read.categories, names)),
            categories,
            read.findings,
        )
        for read in found
    ]


def _places(categories: Sequence[Category], names: Sequence[str]) -> list[int]:
    return [names.index(one.name) for one in categories]
