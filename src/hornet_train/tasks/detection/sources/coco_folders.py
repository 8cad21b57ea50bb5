"""Where COCO's JSON and its pictures lie: in COCO's own folders, or in anyone's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hornet_train.data.sources.listing import check_folder, names_in, preview
from hornet_train.data.sources.split_names import find_split, spellings
from hornet_train.errors import DataError

_IMAGES = ("images", "image", "imgs", "img", "jpegimages", "pictures", "photos", "data")
_JSON = ".json"


@dataclass(frozen=True)
class JsonAndPictures:
    """A file of annotations, and the folder that its file names are in."""

    json: Path
    pictures: Path


def coco(root: Path, split: str) -> JsonAndPictures:
    """COCO 2017 as it is unpacked.

    Args:
        root: with annotations/, train2017/ and val2017/.
        split: `train` or `val`.

    Raises:
        DataError: it is not there.
    """
    check_folder(root, "set data.root= to COCO's folder, with annotations/, train2017/ and val2017/", _KEY)
    found = JsonAndPictures(root / "annotations" / f"instances_{split}2017.json", root / f"{split}2017")
    if not found.json.is_file():
        raise DataError(
            f"{found.json} is not there: data.root= is COCO's folder, with annotations/, train2017/ and "
            "val2017/; data=coco_folder reads other layouts"
        )
    check_folder(found.pictures, "unpack COCO's pictures there")
    return found


_KEY = "data.root="


def find(
    root: Path, split: str, json: str | None = None, images: str | None = None
) -> JsonAndPictures | None:
    """Anyone's JSON and pictures: `train.json`, `annotations/instances_train.json`, `train/*.json`, ...

    Args:
        root: the data set's folder.
        split: `train` or `val`, which may be called `training`, `validation` and so on, or "" for a root that
            is not split.
        json: of this split, within the root; None: found by its name.
        images: the folder of the pictures, within the root; None: found by its name.

    Returns:
        None where there is none of this split.

    Raises:
        DataError: no such root, several files that may be meant, or no such file or folder as was given.
    """
    check_folder(root, "set data.root= to the folder that holds the JSON and the pictures", _KEY)
    path = _json(root, split, json)
    if path is None:
        return None
    return JsonAndPictures(path, _pictures(root, split, path, images))


def other_kind(root: Path) -> str:
    """A hint where a folder without COCO's JSON is of another usual kind; empty where it is not."""
    inside = names_in(root, folders=True)
    places = [root, *(root / name for name in inside)]
    files = [name.lower() for place in places for name in names_in(place, folders=False)]
    if "Annotations" in inside or any(name.endswith(".xml") for name in files):
        return "; it looks like Pascal VOC, which data=voc reads"
    if "labels" in inside or any(name.endswith((".yaml", ".yml")) for name in files):
        return "; it looks like YOLO, whose labels have to be converted to COCO's JSON first"
    return ""


def _json(root: Path, split: str, given: str | None) -> Path | None:
    if given is not None:
        path = root / given
        if not path.is_file():
            raise DataError(f"{path} is not there; it is the JSON that was asked for")
        return path
    top = names_in(root, folders=True)
    places = [root, *(root / name for name in top if name.casefold() in ("annotations", "labels"))]
    if split and (own := find_split(split, top)) is not None:
        places.append(root / own)
    for place in places:
        names = [name for name in names_in(place, folders=False) if name.lower().endswith(_JSON)]
        inside_split = place.name.casefold() in {one.casefold() for one in spellings(split)}
        found = names if not split or inside_split else [name for name in names if _is_of(name, split)]
        exact = [name for name in found if name[: -len(_JSON)].casefold() == split.casefold()]
        found = exact or found
        if len(found) > 1:
            key = {"": "train_json", "train": "train_json"}.get(split, "val_json")
            shown = preview(sorted(found))
            raise DataError(f"{place} holds several files that may be meant: {shown}; data.{key}= names one")
        if found:
            return place / found[0]
    return None


def _is_of(name: str, split: str) -> bool:
    """Whether one of the words of a file's name, without digits, is a spelling of the split."""
    stem = name[: -len(_JSON)].casefold()
    words = {
        "".join(letter for letter in word if not letter.isdigit())
        for word in stem.replace("-", "_").replace(".", "_").split("_")
    }
    own = {one.casefold() for one in spellings(split)}
    if split != "train":
        own -= {"test", "testing"}  # no annotations of a test set stand in for those of a validation set
    return bool(words & own)


def _pictures(root: Path, split: str, json: Path, given: str | None) -> Path:
    if given is not None:
        check_folder(root / given, "it is the folder of pictures that was asked for")
        return root / given
    inside = names_in(json.parent, folders=True)
    top = names_in(root, folders=True)
    images = next((name for name in top if name.casefold() in _IMAGES), None)
    places = []
    if split:
        if images is not None and (own := find_split(split, names_in(root / images, folders=True))):
            places.append(root / images / own)
        if (own := find_split(split, top)) is not None:
            below = names_in(root / own, folders=True)
            places += [root / own / name for name in below if name.casefold() in _IMAGES]
            places.append(root / own)
    if images is not None:
        places.append(root / images)
    places += [json.parent / name for name in inside if name.casefold() in _IMAGES]
    return next(iter(places), json.parent if json.parent != root / "annotations" else root)


def locate(folder: Path, names: Sequence[str]) -> list[bytes]:
    """The paths of pictures within a folder.

    Args:
        folder: of the pictures.
        names: as a JSON has them.

    Raises:
        DataError: some are not there, or lie outside of the folder.
    """
    if outside := next((one for one in names if os.path.isabs(one) or ".." in Path(one).parts), None):
        raise DataError(f"{outside} lies outside of {folder}: file_name is a path within it")
    below = {os.path.dirname(name) for name in names}
    present = {one: set(_files(folder / one)) for one in below}  # a listing each, not a look at every file
    missing = [name for name in names if os.path.basename(name) not in present[os.path.dirname(name)]]
    if missing:
        raise DataError(
            f"{len(missing):,} of {len(names):,} pictures are not in {folder}: {preview(missing)}; fetch "
            "them, remove them from the JSON, or name their folder: data.train_images=, data.val_images="
        )
    return [os.fsencode(name) for name in names]


def _files(folder: Path) -> list[str]:
    return names_in(folder, folders=False) if folder.is_dir() else []
