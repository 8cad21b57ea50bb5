"""The images of a split of class folders, each with its label, as `hornet-data pack` takes them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from hornet_train.data.sources.listing import check_folder, preview, same_text, with_count
from hornet_train.data.sources.source import sha256_of
from hornet_train.errors import ConfigError, DataError
from hornet_train.file_names import as_text
from hornet_train.tasks.classification.layout.split_layout import SplitLayout, list_split
from hornet_train.tasks.classification.sources import FlatSource, imagenet_wnids
from hornet_train.tasks.stored_files import FilesToPack, StoredField

_MAX_SHOWN = 5  # reasons why files are left out


def list_to_pack(folder: Path, name: str, labels: Path | None) -> FilesToPack:
    """List a split by the rules of `FolderSource`, and refuse one with faults.

    Args:
        folder: of the split.
        name: of the split.
        labels: the labels file of ImageNet's loose validation images, instead of class folders (see
            `FlatSource`).

    Raises:
        DataError: the split has faults.
        ConfigError: a labels file for a split with class folders.
    """
    if as_text(name) != name:
        raise ConfigError(
            f"--split {name}: shards are called like it, and it is not UTF-8: rename the folder"
        )
    check_folder(folder, f"set --split to a folder in {folder.parent}")
    layout = list_split(folder, name)
    if labels is not None:
        if not layout.flat:
            raise ConfigError(
                f"--val-labels={labels}: {folder} has class folders, which are its labels already"
            )
        layout.use_labels_of(FlatSource(folder, labels, imagenet_wnids()))
        return _to_pack(layout)
    faults = []
    if not layout.classes:
        loose = "; --val-labels names the labels of ImageNet's loose val images" if layout.flat else ""
        faults.append(f"it has no images in class folders{loose}")
    if layout.empty and name == "train":
        faults.append(f"class folders without an image ({preview(layout.empty)})")
    if layout.unlisted:
        faults.append(f"folders that cannot be listed: {preview(layout.unlisted)}")
    faults += same_text(layout.classes)
    if faults:
        raise DataError(f"{folder}: {'; '.join(faults)}; hornet-data check reports more")
    return _to_pack(layout)


def _to_pack(layout: SplitLayout) -> FilesToPack:
    not_packed = []
    if layout.loose:
        not_packed.append(f"{with_count(len(layout.loose), 'image')} beside the class folders")
    if layout.empty:
        not_packed.append(f"{with_count(len(layout.empty), 'class folder')} without an image")
    for reason, count in layout.ignored.most_common(_MAX_SHOWN):
        not_packed.append(f"{with_count(count, 'file')}: {reason}")
    labels = np.asarray(layout.labels, dtype=np.int32)
    feature = {"names": list(layout.classes), "_type": "ClassLabel"}
    return FilesToPack(
        layout.name,
        layout.folder,
        layout.paths,
        fields=(StoredField("label", ".cls", "int", feature),),
        values=lambda index: (layout.labels[index],),
        facts={"classes": list(layout.classes)},
        fingerprint=sha256_of(layout.paths.block(), labels, repr(layout.classes).encode()),
        not_packed=not_packed,
    )
