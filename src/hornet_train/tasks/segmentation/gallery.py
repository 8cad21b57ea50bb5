"""What an evaluation leaves to be looked at: predicted masks, overlays, and the pictures it does worst on."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from hornet_train.engine.distributed import World
from hornet_train.images.layout import Pixels
from hornet_train.images.palette import colours
from hornet_train.images.resize import resize
from hornet_train.tasks.saved_pictures import check_pictures, write_picture
from hornet_train.tasks.segmentation.metrics import class_scores, mean_over_classes
from hornet_train.tasks.segmentation.palette import overlay, with_legend
from hornet_train.tasks.segmentation.samples import decode_pair
from hornet_train.tasks.segmentation.sources.pairs import Pictures

_SIDE = 320  # pixels of the longer side of a picture in the gallery


class Seen(NamedTuple):
    """One of the worst pictures: small, as it is, with its labels over it, with the prediction over it."""

    rank: float  # minus the mIoU: the greatest is the worst
    number: int
    where: str
    views: tuple[Pixels, Pixels, Pixels]
    labels: tuple[np.ndarray, np.ndarray]


@dataclass
class Gallery:
    """Is given each picture of an evaluation with the answer to it; memory does not grow with their number.

    Attributes:
        source: of the pictures.
        classes: names, in the order of the labels.
        save: `masks`, `overlays`, or both: written as they come.
        most: of the pictures with the lowest mIoU, so many are kept.
        folder: where all of it goes.
        worst: the pictures, a heap until `merge`, then the worst first.
        counts, boundaries: of all pictures, once they are merged; see `confusion`, `boundary_counts`.
    """

    source: Pictures
    classes: Sequence[str]
    save: Sequence[str]
    most: int
    folder: Path
    worst: list[Seen] = field(default_factory=list)
    counts: Tensor | None = None
    boundaries: Tensor | None = None

    def __call__(self, index: int, labels_HW: Tensor, predicted_HW: Tensor, counts: Tensor) -> None:
        """See `Keeper`."""
        where = self.source.locate(index)
        predicted = predicted_HW.numpy()
        if "masks" in self.save:
            self._write("masks", index, Image.fromarray(predicted))
        score = mean_over_classes(class_scores(counts).iou)
        among_worst = (
            self.most > 0
            and np.isfinite(score)
            and (len(self.worst) < self.most or -score > self.worst[0].rank)
        )
        if not among_worst and "overlays" not in self.save:
            return
        picture = decode_pair(self.source.read(index)).image.permute(1, 2, 0).numpy()
        labels, number = labels_HW.numpy(), len(self.classes)
        if "overlays" in self.save:
            beside = [picture, overlay(picture, labels, number), overlay(picture, predicted, number)]
            shown = with_legend(np.hstack(beside), (labels, predicted), self.classes)
            self._write("overlays", index, Image.fromarray(shown))
        if among_worst:
            seen = _small(-score, index, where, picture, labels, predicted, number)
            (heapq.heappushpop if len(self.worst) == self.most else heapq.heappush)(self.worst, seen)

    def merge(self, world: World, counts: Tensor, boundaries: Tensor) -> None:
        """See `Keeper`."""
        found = [seen for of_rank in world.gather(self.worst) for seen in of_rank]
        self.worst = sorted(found, key=lambda seen: (-seen.rank, seen.number))[: self.most]
        self.counts, self.boundaries = counts.cpu(), boundaries.cpu()

    def check_folder(self) -> None:
        """Refuse to write among the data, or over what others wrote; see `check_pictures`."""
        paths = {kind: [self._path(kind, index) for index in range(len(self.source))] for kind in self.save}
        check_pictures(self.folder, paths, self.source.folders)

    def _path(self, kind: str, index: int) -> Path:
        return self.folder / kind / f"{self.source.name(index)}.png"

    def _write(self, kind: str, index: int, image: Image.Image) -> None:
        """A PNG with the name of the picture."""
        if image.mode == "L":
            image.putpalette([value for colour in colours(len(self.classes)) for value in colour])
        write_picture(self._path(kind, index), image)


def _small(
    rank: float,
    index: int,
    where: str,
    picture_HWC: Pixels,
    labels_HW: np.ndarray,
    predicted_HW: np.ndarray,
    classes: int,
) -> Seen:
    """The three views of a picture, small enough to be kept."""
    height, width = labels_HW.shape
    share = min(1.0, _SIDE / max(height, width))
    size = max(1, round(height * share)), max(1, round(width * share))
    rows, columns = (
        np.arange(small) * whole // small for small, whole in zip(size, (height, width), strict=True)
    )
    labels, predicted = (one[rows[:, None], columns] for one in (labels_HW, predicted_HW))
    image_CHW = torch.from_numpy(np.ascontiguousarray(picture_HWC)).permute(2, 0, 1)
    picture: Any = resize(image_CHW, size, "bilinear").permute(1, 2, 0).numpy().copy()
    views = (picture, overlay(picture, labels, classes), overlay(picture, predicted, classes))
    return Seen(rank, index, where, views, (labels, predicted))
