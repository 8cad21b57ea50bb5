"""Check every annotation of a data set, and whether it fits its picture."""

from __future__ import annotations

import io
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import TypeAdapter

from hornet_train.config.conf_files import all_settings
from hornet_train.data.sources.listing import preview, with_count
from hornet_train.data.sources.packed import PackedPaths
from hornet_train.data.sources.source import Encoded
from hornet_train.errors import SampleError
from hornet_train.images.damaged import DAMAGED_FILE_ERRORS
from hornet_train.images.formats import FORMATS
from hornet_train.images.orientation import orientation_of, upright_size
from hornet_train.tasks.detection.boxes import corners_of, reach_out, usable
from hornet_train.tasks.detection.build.open_data import check_same, nothing_to_train_on, usable_objects
from hornet_train.tasks.detection.build.read_splits import Read, read_splits
from hornet_train.tasks.detection.objects import ObjectTable
from hornet_train.tasks.detection.rle import window_of
from hornet_train.tasks.detection.samples import IMAGE, sizes_disagree
from hornet_train.tasks.detection.schema import Data
from hornet_train.tasks.detection.sources import coco_folders, voc_xml
from hornet_train.tasks.detection.sources.pictures import AnnotatedFiles, Pictures
from hornet_train.tasks.stored_files import FilesFound, ImageFiles

_VOC = ("Annotations/*.xml", "VOC20*/Annotations", "*.xml", "train*/*.xml")
_TOLD = 10  # faults of a split that are named
_THREADS = min(16, os.cpu_count() or 1)  # Pillow reads headers without Python's lock
_APART = 2.0  # pixels by which a box may differ from that of its mask


def recognised(root: Path) -> Data:
    """The data group that a folder looks like: COCO 2017, Pascal VOC, or anyone's JSON and pictures."""
    source = "coco_folder"
    if (root / "annotations" / "instances_train2017.json").is_file():
        source = "coco"
    elif any(any(root.glob(one)) for one in _VOC):
        source = "voc"
    settings: dict[str, Any] = {**all_settings("data", source), "root": str(root)}
    if source == "coco_folder" and coco_folders.find(root, "val") is None:
        settings["val"] = False
    if source == "voc" and voc_xml.find(root, "val") is None:
        settings["val_split"] = None
    found: Data = TypeAdapter(Data).validate_python(settings)
    return found


def check_pictures(data: Data, *, open_files: bool = True) -> FilesFound:
    """Read every annotation, and the header of every picture. All faults are collected.

    Args:
        data: the group.
        open_files: False leaves the pictures alone.

    Raises:
        DataError: there is nothing to check, or it cannot be read at all.
    """
    train, val = read_splits(data)
    found = FilesFound(training="train", upright=True)
    if train is not None and val is not None:
        check_same(train, val)
    if train is not None and not usable_objects(train.pictures).any():
        found.faults.append(nothing_to_train_on(train.pictures))
    for name, read in (("train", train), ("val", val)):
        if read is None:
            continue
        if isinstance(read.pictures, AnnotatedFiles):
            files = read.pictures
            found.splits.append(ImageFiles(name, files.folders[0], PackedPaths(files.paths())))
        _describe(found, name, read)
        _check_boxes(found, name, read.pictures)
        if open_files:
            _check_sizes(found, name, read.pictures)
    return found


def _describe(found: FilesFound, name: str, read: Read) -> None:
    pictures, objects = read.pictures, read.pictures.objects
    names = [one.name for one in read.categories]
    counts = Counter(objects.labels.tolist())
    shown = ", ".join(f"{names[label]} {count:,}" for label, count in counts.most_common())
    outlined = int(objects.outlined.sum())
    found.lines.append(
        f"{name}: {with_count(len(pictures), 'picture')}, {with_count(objects.objects, 'object')} "
        f"({outlined:,} with an outline, {with_count(int(objects.crowd.sum()), 'crowd')}), "
        f"{with_count(len(names), 'class')}: {shown}"
    )
    if without := int((np.diff(objects.starts) == 0).sum()):
        found.lines.append(f"{name}: {with_count(without, 'picture')} without objects")
    found.warnings += [f"{name}: {note}" for note in read.notes]
    if never := [name_ for label, name_ in enumerate(names) if not counts[label]]:
        found.warnings.append(
            f"{name}: {len(never)} of the {len(names)} classes never come: {preview(never)}"
        )


def _check_boxes(found: FilesFound, name: str, pictures: Pictures) -> None:
    """Boxes that reach out of their picture, and masks that disagree with their boxes."""
    objects = pictures.objects
    sizes_N2 = objects.sizes_of_pictures(pictures.sizes)
    sides_N2 = sizes_N2[:, ::-1]
    known = (sizes_N2 > 0).all(1)
    over = reach_out(objects.boxes, sizes_N2)
    for what, chosen in (
        # unusable ones are told where the annotations are read
        ("reach out of their picture, and are cut to it", over & usable(objects.boxes, sizes_N2)),
        ("are larger than their picture", (objects.boxes[:, 2:] > sides_N2 + 1).any(1)),
        (f"are {_APART:g} pixels or more from those of their masks", _masks_apart(objects, sides_N2)),
    ):
        if len(ids := objects.ids[known & chosen]):
            names = preview([f"id {number}" for number in ids])
            found.warnings.append(f"{name}: {with_count(len(ids), 'bbox')} {what}: {names}")


def _masks_apart(objects: ObjectTable, sides_N2: np.ndarray) -> np.ndarray:
    """Whether the part of each mask that its picture shows has another box than the object, bool (N,).

    Args:
        objects: N of them.
        sides_N2: (width, height) of the picture of each.
    """
    drawn, bounds_M4 = objects.bounds_of_polygons()
    apart = np.zeros(objects.objects, dtype=bool)
    most_N4 = np.tile(sides_N2, 2)
    corners_N4 = np.clip(corners_of(objects.boxes), 0, most_N4)
    differences_M4 = np.clip(bounds_M4, 0, most_N4[drawn]) - corners_N4[drawn]
    apart[drawn] = np.abs(differences_M4).max(1) >= _APART
    for place in np.flatnonzero(np.diff(objects.codes)).tolist():
        window = window_of(objects.code(place))
        tall, wide = window.pixels.shape
        of_mask = np.array([window.left, window.top, window.left + wide, window.top + tall])
        apart[place] = not tall or np.abs(of_mask - corners_N4[place]).max() >= _APART
    return apart


_TURNED = "turned by the EXIF orientation, of the annotated size either way"
_AS_STORED = "with an EXIF orientation that is not taken, of the annotated size only without it"


def _check_sizes(found: FilesFound, name: str, pictures: Pictures) -> None:
    """Pictures of another size than they are annotated for, and those that may be meant otherwise."""
    with ThreadPoolExecutor(_THREADS) as pool:
        looked = list(pool.map(lambda index: _size_fault(pictures, index), range(len(pictures))))
    faults = [one for one in looked if isinstance(one, SampleError)]
    for what in (_TURNED, _AS_STORED):
        if count := looked.count(what):
            found.warnings.append(f"{name}: {with_count(count, 'picture')} {what}; look at them")
    found.lines += [f"{name}: {fault}" for fault in faults[:_TOLD]]
    if len(faults) > _TOLD:
        found.lines.append(f"{name}: ... and {len(faults) - _TOLD} more")
    if faults:
        found.faults.append(
            f"{len(faults):,} of {with_count(len(pictures), 'picture')} of {name} cannot be used "
            f"(the first: {faults[0].where}: {faults[0].reason})"
        )


def _size_fault(pictures: Pictures, index: int) -> SampleError | str:
    """What is wrong with a picture's size, or what is to be said of it; "" for nothing."""
    height, width = pictures.sizes[index].tolist()
    try:
        stored = pictures.read(index)[IMAGE]
        if not height or not width or not isinstance(stored, Encoded):
            return ""
        with Image.open(io.BytesIO(stored.data), formats=tuple(FORMATS)) as image:
            size, orientation = (image.height, image.width), orientation_of(image)
    except SampleError as error:
        return error
    except DAMAGED_FILE_ERRORS as error:
        return SampleError(pictures.locate(index), f"cannot be decoded as an image ({error})")
    if upright_size(size, orientation) == (height, width):
        return _TURNED if orientation > 1 and size == (height, width) else ""
    if size == (height, width):
        return _AS_STORED
    return sizes_disagree(pictures.locate(index), size, (height, width))
