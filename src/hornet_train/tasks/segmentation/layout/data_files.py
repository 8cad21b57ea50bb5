"""What `hornet-data` asks of segmentation: folders of pictures and masks."""

from __future__ import annotations

from pathlib import Path

from hornet_train.errors import ConfigError
from hornet_train.tasks.stored_files import FilesFound, FilesToPack

_SPLITS = ("train", "val")


class MaskFiles:
    """Pictures and masks, listed as `DataFiles` asks for it."""

    def check_files(self, root: Path, splits: tuple[str, ...], *, open_files: bool) -> FilesFound:
        """See `DataFiles`. Masks are read one by one."""
        from hornet_train.tasks.segmentation.layout.check_masks import check_pictures, recognised

        if splits != _SPLITS:
            raise ConfigError(
                ["--splits is of class folders; for masks: hornet-data check data=masks data.root=<folder>"]
            )
        return check_pictures(recognised(root), open_files=open_files)

    def list_files(self, folder: Path, name: str, labels: Path | None) -> FilesToPack:
        """See `DataFiles`."""
        del folder, name, labels
        raise ConfigError(["task=segmentation does not pack data sets"])


FILES = MaskFiles()
