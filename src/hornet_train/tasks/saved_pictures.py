"""Pictures that an evaluation leaves: where they go, and that they replace nothing of anybody else's."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from hornet_train.errors import ConfigError
from hornet_train.images.damaged import DAMAGED_FILE_ERRORS
from hornet_train.track.durable_files import write_bytes

_MARK = ("Software", "hornet-train")


def folder_of(save_dir: str | None, out: str | None, checkpoint: str | None) -> Path:
    """Where the pictures of an evaluation go: beside its results, unless the config says where.

    Args:
        save_dir, out, checkpoint: of the config.

    Raises:
        ConfigError: there is a file of that name.
    """
    if save_dir is not None:
        folder = Path(save_dir)
    elif out is not None:
        folder = Path(out).with_name(f"{Path(out).stem}_pictures")
    else:
        place = Path(checkpoint or "")
        folder = (place if place.is_dir() else place.parent) / "eval_pictures"
    if folder.exists() and not folder.is_dir():
        raise ConfigError([f"save_dir={folder} is a file: choose another"])
    return folder


def check_pictures(
    folder: Path, paths: Mapping[str, Sequence[Path]], data: Sequence[Path], key: str = "save_dir"
) -> None:
    """Refuse to write among the data, or over what others wrote.

    Args:
        folder: where the pictures go.
        paths: folder in it -> the pictures that will be written there.
        data: folders of the data.
        key: that names the folder; for messages.

    Raises:
        ConfigError: a file would be overwritten that is not this program's own.
    """
    for kind, pictures in paths.items():
        target = (folder / kind).resolve()
        if target.exists() and not target.is_dir():
            raise ConfigError([f"{key}={folder}: {target} is a file: choose another"])
        for one in (place.resolve() for place in data):
            if target == one or target in one.parents or one in target.parents:
                raise ConfigError([f"{key}={folder} writes to {target}, where the data are: choose another"])
        if not target.is_dir():
            continue
        if foreign := next((path for path in pictures if path.is_file() and not _is_of_ours(path)), None):
            raise ConfigError(
                [f"{key}={folder}: {foreign} is none that this program wrote before: choose another"]
            )


def write_picture(path: Path, image: Image.Image) -> None:
    """Write a PNG, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = PngInfo()
    text.add_text(*_MARK)
    file = io.BytesIO()
    image.save(file, format="PNG", pnginfo=text)
    write_bytes(path, file.getvalue())


def _is_of_ours(path: Path) -> bool:
    try:
        with Image.open(path, formats=("PNG",)) as image:
            return image.info.get(_MARK[0]) == _MARK[1]
    except DAMAGED_FILE_ERRORS:
        return False
