"""ImageNet's validation images in one folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hornet_train.data.sources.files import FileList
from hornet_train.data.sources.listing import check_folder, preview
from hornet_train.errors import DataError
from hornet_train.file_names import as_text
from hornet_train.images.formats import EXTENSIONS
from hornet_train.tasks.classification.sources.labelled_files import LabelledFiles
from hornet_train.tasks.classification.sources.val_labels import read_val_labels


class FlatSource(LabelledFiles):
    """Loose images `folder/ILSVRC2012_val_*.JPEG` and a labels file (see `read_val_labels`).

    Images are taken in sorted order of their names; other files, and names that start with a dot, are passed
    over.
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
        images = _images(place)
        known = read_val_labels(file, classes)
        stems = [as_text(os.path.splitext(image)[0]) for image in images]  # as a labels file can have them
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
        labelled = np.asarray([known[stem] for stem in stems], dtype=np.int32)
        super().__init__(FileList(place, map(os.fsencode, images)), labelled, classes)


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
