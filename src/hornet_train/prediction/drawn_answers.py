"""Pictures of answers: masks, overlays, and the small ones of a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hornet_train.data.worker import Samples
from hornet_train.errors import ConfigError
from hornet_train.images.layout import Pixels
from hornet_train.prediction.picture_list import PictureList
from hornet_train.prediction.wanted import PicturesAsked
from hornet_train.tasks.predictor_types import Answer, Answers
from hornet_train.tasks.saved_pictures import check_pictures, write_picture

ON_A_SHEET = 64  # pictures
_SIDE = 256  # pixels of a picture on a sheet
_PAPER = 255


class AnswerPictures:
    """Draws answers on the pictures that they are for, and saves them."""

    def __init__(
        self, asked: PicturesAsked, pictures: PictureList, samples: Samples, answers: Answers
    ) -> None:
        """Make sure that nothing of anybody else's is overwritten.

        Raises:
            ConfigError: it would be, or the task does not draw what is asked for.
        """
        self._asked, self._pictures, self._samples, self._answers = asked, pictures, samples, answers
        wanted = {"--masks": asked.masks, "--overlays": asked.overlays, "--heatmaps": asked.heatmaps}
        folders = {flag: place for flag, place in wanted.items() if place is not None}
        for flag, can in (("--masks", answers.masks), ("--overlays", answers.draws)):
            if flag in folders and not can:
                raise ConfigError([f"{flag}: the answers of this checkpoint are no masks and no objects"])
        if len({place.resolve() for place in folders.values()}) < len(folders):
            raise ConfigError([f"{' and '.join(folders)}: two are the same folder, give each its own"])
        self._names = pictures.names() if folders else []
        for flag, place in folders.items():
            paths = [self._path(place, index) for index in range(len(pictures))]
            check_pictures(place, {"": paths}, pictures.folders, key=flag)

    def __call__(self, index: int, answer: Answer) -> Pixels | None:
        """Draw and save the answer for a picture.

        Returns:
            It for a contact sheet, uint8 (side, side, 3); None where it comes on none.
        """
        if self._asked.masks is not None:
            write_picture(self._path(self._asked.masks, index), self._answers.mask(answer))
        if self._asked.heatmaps is not None:
            write_picture(self._path(self._asked.heatmaps, index), Image.fromarray(answer["heat"]))
        on_sheet = self._asked.sheet is not None and index < ON_A_SHEET
        if self._asked.overlays is None and not on_sheet:
            return None
        picture: Tensor = self._samples.decode(self._pictures.read(index))
        drawn = self._answers.drawn(picture, answer)
        if self._asked.overlays is not None:
            write_picture(self._path(self._asked.overlays, index), Image.fromarray(drawn))
        return on_paper(drawn) if on_sheet else None

    def _path(self, folder: Path, index: int) -> Path:
        return folder / f"{self._names[index]}.png"


def on_paper(pixels_HWC: Pixels) -> Pixels:
    """A picture of any shape in the middle of a white square, uint8 (side, side, 3)."""
    image = Image.fromarray(pixels_HWC)
    image.thumbnail((_SIDE, _SIDE))
    paper = Image.new("RGB", (_SIDE, _SIDE), (_PAPER,) * 3)
    paper.paste(image, ((_SIDE - image.width) // 2, (_SIDE - image.height) // 2))
    return np.asarray(paper)


def stacked_for_sheet(pictures: Sequence[Pixels]) -> Tensor:
    """Pictures as a contact sheet takes them, uint8 (B, 3, side, side)."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
