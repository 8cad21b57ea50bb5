"""What an evaluation leaves: overlays, COCO's results, and the pictures with most mistakes."""

from __future__ import annotations

import heapq
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from hornet_train.engine.distributed import World
from hornet_train.errors import ConfigError
from hornet_train.images.layout import Pixels
from hornet_train.tasks.detection.average_precision import Found, Precision, result_rows
from hornet_train.tasks.detection.boxes import corners_of
from hornet_train.tasks.detection.drawing import Marks, marked, shown_size
from hornet_train.tasks.detection.mistakes import Mistakes, compare
from hornet_train.tasks.detection.objects import PictureObjects
from hornet_train.tasks.detection.rle import NOTHING, mask_code, window_of
from hornet_train.tasks.detection.samples import decode_picture
from hornet_train.tasks.detection.sources.annotated import Category
from hornet_train.tasks.detection.sources.pictures import Pictures
from hornet_train.tasks.detection.tally import truth_of
from hornet_train.tasks.saved_pictures import check_pictures, write_picture
from hornet_train.track.durable_files import write_bytes

_FEW = 20  # objects of a picture whose names are written
_SIDE = 480  # pixels of the longer side of a picture in the gallery


class Seen(NamedTuple):
    """One of the pictures with most mistakes: with its objects, and with what was found."""

    rank: int  # misses and false alarms
    number: int  # minus the sample, so that of equals the first is the worst
    where: str
    about: str
    views: tuple[Pixels, Pixels]


@dataclass
class Gallery:
    """Is given each picture of an evaluation with what was found in it. See `Keeper`.

    Attributes:
        source: of the pictures.
        categories: the classes, in the order of the labels.
        save: `overlays`, `json`, or both.
        most: of the pictures with most mistakes, so many are kept.
        folder: where all of it goes.
        worst: the pictures, a heap until `merge`, then the worst first.
        found, precision: of all pictures, once they are merged.
    """

    source: Pictures
    categories: Sequence[Category]
    save: Sequence[str]
    most: int
    folder: Path
    worst: list[Seen] = field(default_factory=list)
    found: Mapping[int, Found] = field(default_factory=dict)
    precision: Mapping[str, Precision] = field(default_factory=dict)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the labels."""
        return tuple(one.name for one in self.categories)

    def __call__(self, index: int, found: Found) -> None:
        """See `Keeper`."""
        objects = self.source.objects.of(index)
        mistakes = compare(objects, found)
        rank = (mistakes.number, -index)
        among_worst = mistakes.number > 0 and (
            len(self.worst) < self.most or (self.most > 0 and rank > self.worst[0][:2])
        )
        if not among_worst and "overlays" not in self.save:
            return
        picture = decode_picture(self.source.read(index)).image.permute(1, 2, 0).numpy()
        marks = (
            truth_marks(objects, picture.shape[:2], self.classes, mistakes.missed.tolist()),
            found_marks(found, mistakes, self.classes),
        )
        number = len(self.categories)
        if "overlays" in self.save:
            views = [marked(picture, one, number) for one in marks]
            write_picture(self._path(index), Image.fromarray(np.hstack(views)))
        if among_worst:
            size = shown_size(picture.shape[:2], _SIDE)
            truth, predicted = (marked(picture, one, number, size) for one in marks)
            about = f"{int(mistakes.missed.sum())} missed, {int(mistakes.false.sum())} false alarms"
            seen = Seen(*rank, self.source.locate(index), about, (truth, predicted))
            (heapq.heappushpop if len(self.worst) == self.most else heapq.heappush)(self.worst, seen)

    def merge(self, world: World, found: Mapping[int, Found], precision: Mapping[str, Precision]) -> None:
        """See `Keeper`."""
        every = [seen for of_rank in world.gather(self.worst) for seen in of_rank]
        self.worst = sorted(every, key=lambda seen: seen[:2], reverse=True)[: self.most]
        self.found, self.precision = found, precision
        if "json" in self.save and world.rank == 0:
            self._write_results()

    def _write_results(self) -> None:
        """COCO's results, with the data set's own numbers of pictures and classes; without those of classes
        that it does not know."""
        numbers = {label: one.number for label, one in enumerate(self.categories) if one.number >= 0}
        truths = [truth_of(self.source, index) for index in self.found]
        every = list(self.found.values())
        self.folder.mkdir(parents=True, exist_ok=True)
        for kind in self.precision:
            rows = result_rows(truths, every, masks=kind == "mask", numbers=numbers)
            content = json.dumps(rows, separators=(",", ":")).encode()
            write_bytes(self.folder / f"{kind}_results.json", content)

    def check_folder(self) -> None:
        """Refuse to write among the data, or over what others wrote; see `check_pictures`."""
        if "overlays" in self.save:
            paths = [self._path(index) for index in range(len(self.source))]
            check_pictures(self.folder, {"overlays": paths}, self.source.folders)
        if "json" in self.save and any(
            self.folder.resolve() == place.resolve() for place in self.source.folders
        ):
            raise ConfigError([f"save_dir={self.folder} is where the data are: choose another"])

    def _path(self, index: int) -> Path:
        return self.folder / "overlays" / f"{self.source.name(index)}.png"


def truth_marks(
    objects: PictureObjects, size: tuple[int, int], classes: Sequence[str], missed: Sequence[bool]
) -> Marks:
    """The annotated objects of a picture of (height, width) pixels; those that are missed are wrong."""
    labels = objects.labels.tolist()
    texts = [
        " ".join(["crowd"] * bool(crowd) + _named(label, classes, len(labels)))
        for label, crowd in zip(labels, objects.crowd, strict=True)
    ]
    masks = [mask_code(outline, (int(size[0]), int(size[1]))) for outline in objects.outlines]
    windows = [NOTHING if one is None else window_of(one) for one in masks]
    return Marks(corners_of(objects.boxes), labels, texts, missed, windows)


def found_marks(found: Found, mistakes: Mistakes, classes: Sequence[str]) -> Marks:
    """The detections that are looked at, with their scores; false alarms are wrong."""
    shown = mistakes.shown.tolist()
    labels = [int(found.labels[place]) for place in shown]
    few = len(shown) <= _FEW
    texts = [
        " ".join([*_named(label, classes, len(shown)), *([f"{found.scores[place]:.2f}"] if few else [])])
        for place, label in zip(shown, labels, strict=True)
    ]
    masks = [window_of(found.masks[place]) for place in shown] if found.masks else []
    return Marks(found.boxes[shown], labels, texts, mistakes.false.tolist(), masks)


def _named(label: int, classes: Sequence[str], objects: int) -> list[str]:
    """The name of a class, unless there is but one, or names would cover the picture."""
    return [classes[label]] if len(classes) > 1 and objects <= _FEW else []
