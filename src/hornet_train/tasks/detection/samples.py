"""From the stored fields of a picture with its objects to a sample for training or evaluation."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from hornet_train.data.address import SampleDraws
from hornet_train.data.order import Address
from hornet_train.data.sources.source import Encoded, Fields, Source
from hornet_train.data.worker import decoded_image
from hornet_train.errors import SampleError
from hornet_train.images.decode import decode_with_orientation
from hornet_train.images.orientation import as_annotated, upright_size
from hornet_train.tasks.asked import view_name
from hornet_train.tasks.detection.boxes import corners_of, trained
from hornet_train.tasks.detection.copy_paste import Scene, copy_paste
from hornet_train.tasks.detection.objects import PictureObjects
from hornet_train.tasks.detection.rle import NOTHING, UNKNOWN, Window, mask_code, window_of
from hornet_train.tasks.detection.transforms import EvalTransform, TrainTransform

IMAGE, OBJECTS, SIZE = "image", "objects", "size"  # the last: (height, width) as annotated, 0 if not known
BOXES, LABELS, WINDOWS, PIXELS, DRAW = "boxes", "labels", "windows", "pixels", "draw"


class Decoded(NamedTuple):
    """A picture, uint8 (3, H, W) RGB, its objects, and what it is called."""

    image: Tensor
    objects: PictureObjects
    where: str


def decode_picture(fields: Fields) -> Decoded:
    """The pixels of a picture, and its objects.

    The picture stands upright, as its EXIF orientation says, where it then has the size for which its objects
    are annotated, or where that size is not known.

    Raises:
        SampleError: it is damaged, or of another size.
    """
    stored, objects = fields[IMAGE], fields[OBJECTS]
    if not isinstance(stored, Encoded):
        return Decoded(stored, objects, "a picture in memory")
    image_CHW, orientation = decode_with_orientation(stored.data, stored.where)
    pixels = (int(image_CHW.shape[1]), int(image_CHW.shape[2]))
    height, width = fields[SIZE]
    known = (height, width) if height and width else upright_size(pixels, orientation)
    fitting_CHW = as_annotated(image_CHW, orientation, known)
    if fitting_CHW is None:
        raise sizes_disagree(stored.where, pixels, known)
    return Decoded(fitting_CHW, objects, stored.where)


def sizes_disagree(where: str, size: tuple[int, ...], annotated: tuple[int, ...]) -> SampleError:
    """The error of a picture of another (height, width) than it is annotated for."""
    return SampleError(
        where,
        f"it has {size[0]}x{size[1]} pixels (height x width), its annotation {annotated[0]}x{annotated[1]}",
        "boxes and masks would not fit: use the picture that was annotated, or mend its height and width",
    )


class _Pictures:
    """Stored pictures with objects, decoded; see `Samples`."""

    def decode(self, fields: Fields) -> Decoded:
        """See `Samples`."""
        return decode_picture(fields)

    def nbytes(self, decoded: Decoded) -> int:
        """See `Samples`."""
        return decoded.image.nbytes


@dataclass(frozen=True)
class TrainSamples(_Pictures):
    """Augmented by draws from (seed, epoch, index).

    A sample: `image` uint8 (3, h, w); of its M objects `boxes` float32 (M, 4), corners in pixels, and
    `labels` int64 (M,); `draw` int, the seed of what is drawn for it in a step; and with masks `windows`
    int64 (M, 4), top, left, height and width of a part of the picture, and `pixels` uint8, the masks in these
    parts, one after the other.

    Attributes:
        transform: of the picture.
        seed: of the run.
        masks: whether there are masks; that of an object without an outline is a window at -1.
        paste: how often objects of another picture are pasted, with masks alone; see `copy_paste`.
        others: the pictures that these come from.
    """

    transform: TrainTransform
    seed: int
    masks: bool
    paste: float = 0.0
    others: Source | None = None
    _draws: SampleDraws = field(default_factory=SampleDraws, init=False, repr=False, compare=False)

    @property
    def ragged(self) -> Collection[str]:
        """See `Samples`."""
        return frozenset({IMAGE, BOXES, LABELS, *([WINDOWS, PIXELS] if self.masks else [])})

    def make(self, address: Address, decoded: Decoded) -> dict[str, Any]:
        """See `Samples`."""
        rng = self._draws.at(self.seed, address.epoch, address.index, address.repeat)
        draw = int(rng.integers(2**63 - 1))
        other = self._other(rng)
        scene = self._scene(decoded, rng)
        if other is not None:
            scene = copy_paste(scene, self._scene(other, rng), rng)
        found = {
            IMAGE: scene.image_CHW,
            BOXES: torch.from_numpy(scene.boxes_N4.astype(np.float32)),
            LABELS: torch.from_numpy(scene.labels),
            DRAW: draw,
        }
        return {**found, **packed(scene.masks)} if self.masks else found

    def _other(self, rng: np.random.Generator) -> Decoded | None:
        """A picture whose objects are pasted, if any are; none of one that is damaged, which is reported
        where it is trained on itself."""
        if self.others is None or not self.paste or rng.random() >= self.paste:
            return None
        number = int(rng.integers(len(self.others)))
        try:
            return self.decode(self.others.read(number))
        except SampleError:
            return None

    def _scene(self, decoded: Decoded, rng: np.random.Generator) -> Scene:
        """The picture, transformed, with the objects that are seen."""
        objects = decoded.objects
        size = (int(decoded.image.shape[1]), int(decoded.image.shape[2]))
        chosen = np.flatnonzero(trained(objects, size))
        view = self.transform(decoded.image, corners_of(objects.boxes[chosen]), rng)
        # in the precision in which they are trained, where a sliver may be nothing
        corners = view.boxes_N4.astype(np.float32).astype(np.float64)
        seen = (corners[:, 2] > corners[:, 0]) & (corners[:, 3] > corners[:, 1])
        numbers = chosen[seen] if self.masks else ()
        masks = [view.mask(_stored_mask(objects, number, size)) for number in numbers]
        return Scene(view.image_CHW, corners[seen], objects.labels[chosen[seen]], masks)


def _stored_mask(objects: PictureObjects, number: int, size: tuple[int, int]) -> Window:
    rle = mask_code(objects.outlines[number], size)
    window = NOTHING if rle is None else window_of(rle)
    return window if window.pixels.size else UNKNOWN


def packed(windows: Sequence[Window]) -> dict[str, Tensor]:
    """Masks of a picture's objects as they are sent: see `TrainSamples`."""
    places = np.array([(one.top, one.left, *one.pixels.shape) for one in windows], dtype=np.int64)
    pixels = np.concatenate([one.pixels.reshape(-1) for one in (NOTHING, *windows)])
    return {
        WINDOWS: torch.from_numpy(places.reshape(-1, 4)),
        PIXELS: torch.from_numpy(pixels.astype(np.uint8)),
    }


def unpacked(windows: Tensor, pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """The masks of a picture of (height, width), uint8 (M, H, W), from what `packed` sent; unknown ones are
    empty."""
    masks = pixels.new_zeros((len(windows), *size))
    begin = 0
    for mask, (top, left, tall, wide) in zip(masks, windows.tolist(), strict=True):
        end = begin + tall * wide
        mask[top : top + tall, left : left + wide] = pixels[begin:end].view(tall, wide)
        begin = end
    return masks


@dataclass(frozen=True)
class EvalSamples(_Pictures):
    """A sample: `image` uint8 (3, h, w), and `size` int64 (2,): (height, width) of the stored picture."""

    transform: EvalTransform
    ragged: ClassVar[Collection[str]] = frozenset({IMAGE})

    def make(self, address: Address, decoded: Decoded) -> dict[str, Any]:  # noqa: ARG002 - nothing is drawn
        """See `Samples`."""
        size = torch.tensor(decoded.image.shape[1:])
        return {IMAGE: self.transform(decoded.image), SIZE: size}


@dataclass(frozen=True)
class PictureSamples:
    """Pictures without annotations; see `EvalSamples`. More scales are `image1`, ... of a sample.

    Attributes:
        transforms: of each scale.
    """

    transforms: tuple[EvalTransform, ...]

    @property
    def ragged(self) -> Collection[str]:
        """See `Samples`."""
        return frozenset(map(view_name, range(len(self.transforms))))

    def decode(self, fields: Fields) -> Tensor:
        """See `Samples`."""
        return decoded_image(fields[IMAGE], "apply")

    def nbytes(self, decoded: Tensor) -> int:
        """See `Samples`."""
        return decoded.nbytes

    def make(self, address: Address, decoded: Tensor) -> dict[str, Any]:  # noqa: ARG002 - nothing is drawn
        """See `Samples`."""
        views = {view_name(number): make(decoded) for number, make in enumerate(self.transforms)}
        return {**views, SIZE: torch.tensor(decoded.shape[1:])}
