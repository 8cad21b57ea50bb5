"""What `hornet-data` asks of detection: pictures with COCO's JSON."""

from __future__ import annotations

from pathlib import Path

from hornet_train.errors import ConfigError
from hornet_train.tasks.stored_files import FilesFound, FilesToPack

_SPLITS = ("train", "val")


class ObjectFiles:
    """Pictures and their annotations, listed as `DataFiles` asks for it."""

    def check_files(self, root: Path, splits: tuple[str, ...], *, open_files: bool) -> FilesFound:
        """See `DataFiles`. Annotations are read, and the headers of pictures."""
        from hornet_train.tasks.detection.layout.check_objects import check_pictures, recognised

        if splits != _SPLITS:
            raise ConfigError(
                ["--splits is of class folders: hornet-data check data=coco_folder data.root=<folder>"]
            )
        return check_pictures(recognised(root), open_files=open_files)

    def list_files(self, folder: Path, name: str, labels: Path | None) -> FilesToPack:
        """See `DataFiles`."""
        del folder, name, labels
        raise ConfigError(["task=detection does not pack data sets"])


FILES = ObjectFiles()
