"""Where COCO's JSON and its pictures lie: in COCO's own folders, or in anyone's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hornet_train.data.sources.listing import check_folder, names_in, preview
from hornet_train.data.sources.litter import is_litter
from hornet_train.data.sources.split_names import find_split, spellings
from hornet_train.errors import DataError
from hornet_train.tasks.detection.sources.coco_json import check_kind

_IMAGES = ("images", "image", "imgs", "img", "jpegimages", "pictures", "photos", "data")
_JSON = ".json"


@dataclass(frozen=True)
class JsonAndPictures:
    """A file of annotations, and the folders that its file names may be in, the likeliest first."""

    json: Path
    places: tuple[Path, ...]


def coco(root: Path, split: str) -> JsonAndPictures:
    """COCO 2017 as it is unpacked.

    Args:
        root: with annotations/, train2017/ and val2017/.
        split: `train` or `val`.

    Raises:
        DataError: it is not there.
    """
    check_folder(root, "set data.root= to COCO's folder, with annotations/, train2017/ and val2017/", _KEY)
    pictures = root / f"{split}2017"
    found = JsonAndPictures(root / "annotations" / f"instances_{split}2017.json", (pictures,))
    if not found.json.is_file():
        raise DataError(
            f"{found.json} is not there: data.root= is COCO's folder, with annotations/, train2017/ and "
            "val2017/; data=coco_folder reads other layouts"
        )
    check_folder(pictures, "unpack COCO's pictures there")
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
    return JsonAndPictures(path, _places(root, split, path, images))


def other_kind(root: Path) -> str:
    """A hint where a folder without COCO's JSON is of another usual kind; empty where it is not."""
    inside = names_in(root, folders=True)
    places = [root, *(root / name for name in inside)]
    files = [name.lower() for place in places for name in names_in(place, folders=False)]
    if any(name.endswith(".xml") for name in files) or any(name.startswith("VOC20") for name in inside):
        return "; it looks like Pascal VOC, which data=voc reads"
    has_texts = "labels" in inside and any(name.endswith(".txt") for name in files)
    if has_texts or any(name.endswith((".yaml", ".yml")) for name in files):
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
        names = [
            name
            for name in names_in(place, folders=False)
            if name.lower().endswith(_JSON) and not is_litter(name)
        ]
        if not split:
            found = [name for name in names if not any(_is_of(name, other) for other in ("val", "test"))]
        elif place.name.casefold() in {one.casefold() for one in spellings(split)}:
            found = names
        else:
            found = [name for name in names if _is_of(name, split)]
        exact = [name for name in found if name[: -len(_JSON)].casefold() == split.casefold()]
        found = exact or [name for name in found if name.casefold().startswith("instances")] or found
        if len(found) > 1:
            key = {"": "train_json", "train": "train_json"}.get(split, "val_json")
            check_kind(place / min(found))
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
    if split != "test":
        own -= {"test", "testing"}  # no annotations of a test set stand in for those of a validation set
    return bool(words & own)


def _places(root: Path, split: str, json: Path, given: str | None) -> tuple[Path, ...]:
    """Where the pictures may be: never where those of another split are."""
    if given is not None:
        check_folder(root / given, "it is the folder of pictures that was asked for")
        return (root / given,)
    top = names_in(root, folders=True)
    images = next((name for name in top if _is_images(name)), None)
    below = names_in(root / images, folders=True) if images is not None else []
    places = []
    if images is not None and split and (part := find_split(split, below)):
        places.append(root / images / part)
    if split and (own := find_split(split, top)) is not None:
        places += [root / own / name for name in names_in(root / own, folders=True) if _is_images(name)]
        places.append(root / own)
    if images is not None:
        places.append(root / images)
    places += [json.parent / name for name in names_in(json.parent, folders=True) if _is_images(name)]
    places += [json.parent, root]
    if images is not None and not split:
        places += [root / images / name for name in below]
    return tuple(dict.fromkeys(places))


def _is_images(name: str) -> bool:
    return name.casefold() in _IMAGES


def pictures_of(found: JsonAndPictures, names: Sequence[str]) -> tuple[Path, list[bytes]]:
    """The folder of the pictures, and their paths in it.

    Args:
        found: the places where they may be.
        names: as the JSON has them.

    Raises:
        DataError: some are in none of these, or lie outside.
    """
    if outside := next((one for one in names if os.path.isabs(one) or ".." in Path(one).parts), None):
        raise DataError(f"{outside} lies outside of {found.places[0]}: file_name is a path within it")
    missing = dict[Path, list[str]]()
    for place in found.places:
        missing[place] = _missing(place, names)
        if not missing[place]:
            return place, [os.fsencode(name) for name in names]
    place = min(missing, key=lambda one: len(missing[one]))  # the first of equals
    tried = [str(one) for one in found.places if one != place and one.is_dir()]
    raise DataError(
        f"{len(missing[place]):,} of {len(names):,} pictures are not in {place}: {preview(missing[place])}"
        + (f" (nor are all of them in {preview(tried)})" if tried else "")
        + "; fetch them, remove them from the JSON, or name the folder that their file_name is in: "
        "data.train_images=, data.val_images="
    )


def _missing(place: Path, names: Sequence[str]) -> list[str]:
    below = {os.path.dirname(name) for name in names}
    present = {one: set(_files(place / one)) for one in below}  # a listing each, not a look at every file
    return [name for name in names if os.path.basename(name) not in present[os.path.dirname(name)]]


def _files(folder: Path) -> list[str]:
    return names_in(folder, folders=False) if folder.is_dir() else []
