"""ImageNet's validation images in one folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hornet_train.data.sources.files import FileList
from hornet_train.data.sources.listing import check_folder, preview
from hornet_train.data.sources.source import Fields, sha256_of
from hornet_train.errors import DataError
from hornet_train.images.formats import EXTENSIONS
from hornet_train.tasks.classification.sources.labelled import IMAGE, LABEL
from hornet_train.tasks.classification.sources.val_labels import read_val_labels


class FlatSource:
    """Loose images `folder/ILSVRC2012_val_*.JPEG` and a labels file (see `read_val_labels`).

    Images are taken in sorted order of their names; other files, and names that start with a dot, are passed
    over.

    Attributes:
        classes: class names in label order.
    """

    def __init__(
        self, folder: str | os.PathLike[str], labels: str | os.PathLike[str], classes: Sequence[str]
    ) -> None:
        """List the images.

        Args:
            folder: where they lie.
            labels: the labels file.
            classes: wnids in label order.

        Raises:
            DataError: either cannot be read, or images and labels do not pair off: all at once.
        """
        place, file = Path(folder).expanduser(), Path(labels).expanduser()
        self.classes = tuple(classes)
        images = _images(place)
        known = read_val_labels(file, classes)
        stems = [os.path.splitext(image)[0] for image in images]
        faults = []
        if missing := sorted(known.keys() - set(stems)):
            faults.append(f"{len(missing):,} images of the labels file are missing ({preview(missing)})")
        if unlabelled := sorted(set(stems) - known.keys()):
            faults.append(f"{len(unlabelled):,} images have no label ({preview(unlabelled)})")
        if twice := sorted(stem for stem, times in Counter(stems).items() if times > 1):
            faults.append(f"{len(twice):,} names with several extensions ({preview(twice)})")
        if faults:
            raise DataError(
                f"{place} has {len(images):,} images, data.val_labels={file} {len(known):,} labels: "
                f"{'; '.join(faults)}; fetch what is missing or give the labels file of these images"
            )
        self._files = FileList(place, map(os.fsencode, images))
        self._labels = np.asarray([known[stem] for stem in stems], dtype=np.int32)

    @property
    def paths(self) -> Iterator[bytes]:
        """Of the images, relative to the folder."""
        return iter(self._files)

    @property
    def labels(self) -> list[int]:
        labels: list[int] = self._labels.tolist()
        return labels

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: int) -> Fields:
        return {IMAGE: self._files.read(index), LABEL: int(self._labels[index])}

    def locate(self, index: int) -> str:
        return self._files.locate(index)

    @property
    def fingerprint(self) -> str:
        return sha256_of(self._files.paths.block(), self._labels, repr(self.classes).encode())


def _images(folder: Path) -> list[str]:
    """The names of the images directly in a folder, sorted."""
    check_folder(folder, "it should hold ImageNet's validation images (data.root, data.val_dir)")
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error
    images = sorted(n for n in names if not n.startswith(".") and n.lower().endswith(EXTENSIONS))
    if not images:
        raise DataError(
            f"{folder} holds no loose images; where they lie in class folders, leave data.val_labels out"
        )
    return images
