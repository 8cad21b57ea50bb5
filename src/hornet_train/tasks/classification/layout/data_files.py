"""What `hornet-data` asks of classification: data sets of class folders."""

from __future__ import annotations

from pathlib import Path

from hornet_train.tasks.classification.layout.check_layout import check_layout
from hornet_train.tasks.classification.layout.pack_layout import list_to_pack
from hornet_train.tasks.stored_files import FilesFound, FilesToPack


class ClassFolders:
    """Class folders, listed as `DataFiles` asks for it."""

    def check_files(self, root: Path, splits: tuple[str, ...], *, open_files: bool) -> FilesFound:
        """See `DataFiles`. No file is opened."""
        del open_files
        return check_layout(root, splits)

    def list_files(self, folder: Path, name: str, labels: Path | None) -> FilesToPack:
        """See `DataFiles`."""
        return list_to_pack(folder, name, labels)


FILES = ClassFolders()
