"""Anyone's folders of pictures and masks: which folders they are, however they are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hornet_train.data.sources.listing import check_folder, names_in, preview
from hornet_train.data.sources.split_names import find_split
from hornet_train.errors import DataError
from hornet_train.tasks.segmentation.sources.pairs import PairFolders

_IMAGES = ("images", "image", "imgs", "img", "jpegimages", "pictures", "photos")
_MASKS = ("masks", "mask", "annotations", "labels", "segmentationclass", "gt", "segmentations")


def find_pairs(
    root: Path, split: str, *, images_dir: str | None = None, masks_dir: str | None = None
) -> PairFolders | None:
    """The folders of a split below a root: `images/train` and `masks/train`, or `train/images` and so on.

    Args:
        root: the data set's folder.
        split: `train` or `val`, which may be called `training`, `validation` and so on, or "" for
            a root that is not split.
        images_dir, masks_dir: what the folders are called; None: one of the usual names.

    Returns:
        None where the split is not there.

    Raises:
        DataError: no such root, or none of the folders.
    """
    check_folder(root, "set data.root= to the folder that holds images/ and masks/", "data.root=")
    top = names_in(root, folders=True)
    images, masks = _named(top, images_dir, _IMAGES), _named(top, masks_dir, _MASKS)
    if images is not None and masks is not None:
        if not split:
            return PairFolders(root / images, root / masks)
        inside = [names_in(root / one, folders=True) for one in (images, masks)]
        found = [find_split(split, names) for names in inside]
        if None not in found:
            return PairFolders(root / images / str(found[0]), root / masks / str(found[1]))
        return None
    if split and (folder := find_split(split, top)) is not None:
        below = names_in(root / folder, folders=True)
        images, masks = _named(below, images_dir, _IMAGES), _named(below, masks_dir, _MASKS)
        if images is not None and masks is not None:
            return PairFolders(root / folder / images, root / folder / masks)
        raise DataError(_not_found(root / folder, below, images_dir, masks_dir))
    if any(find_split(name, top) for name in ("train", "val")):
        return None
    raise DataError(_not_found(root, top, images_dir, masks_dir))


def _named(present: Sequence[str], given: str | None, usual: Sequence[str]) -> str | None:
    if given is not None:
        return given if given in present else None
    folded = {name.casefold(): name for name in present}
    return next((folded[name] for name in usual if name in folded), None)


def _not_found(root: Path, present: Sequence[str], images_dir: str | None, masks_dir: str | None) -> str:
    what = f"{images_dir or 'images'}/ and {masks_dir or 'masks'}/"
    there = f"there are: {preview(sorted(present))}" if present else "it holds no folders"
    return f"{root} holds no folders {what} ({there}); data.images_dir= and data.masks_dir= name them"
