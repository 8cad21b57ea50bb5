"""Detection: boxes of objects, and their masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from hornet_train.data.batch import Batch, ragged, size, stacked
from hornet_train.data.sources.listing import with_count
from hornet_train.dense.rcnn.detector import Detector
from hornet_train.dense.rcnn.region_masks import pasted
from hornet_train.dense.rcnn.regions import Objects, Picture
from hornet_train.dense.rcnn.roi_head import RoiRules
from hornet_train.engine.task import Loss
from hornet_train.images.normalize import Normalize
from hornet_train.tasks.asked import view_names
from hornet_train.tasks.detection.average_precision import Found
from hornet_train.tasks.detection.objects import Rle
from hornet_train.tasks.detection.rle import Window, rle_of
from hornet_train.tasks.detection.samples import BOXES, DRAW, IMAGE, LABELS, PIXELS, SIZE, WINDOWS, unpacked
from hornet_train.tasks.detection.sources.pictures import Pictures
from hornet_train.tasks.detection.tally import DetectionTally, Keeper
from hornet_train.tasks.detection.views import View, merged, unmirrored

MULTIPLE = 32  # sides of batches


@dataclass(frozen=True)
class Detection:
    """The losses of the proposals and of the heads; in evaluations the metrics of `METRICS`.

    The losses of each picture are divided by the numbers of its own anchors and regions, as the published
    code has it with one picture a process. So what a picture weighs depends neither on how a step's pictures
    are grouped nor on what other ranks have.

    A training batch has lists of one tensor a sample, see `TrainSamples`; an evaluation batch those of
    `EvalSamples`.

    Attributes:
        build: makes the model, with its initial weights.
        classes: K.
        normalize: of the images.
        masks: whether the model finds masks.
        black: whether pictures are padded with black, else with what is 0 to the model.
        channels_last: memory format of the images.
        truth: what an evaluation measures on; None where there is none.
        present: the classes that the evaluation's data set knows.
        keeper: sees every picture of an evaluation.
        flip: whether `answer` asks about mirror images, too.
        canvas: (height, width) up to which every picture is padded; None: see `padded`.
    """

    build: Callable[[], Detector]
    classes: int
    normalize: Normalize
    masks: bool
    black: bool = False
    channels_last: bool = True
    truth: Pictures | None = None
    present: tuple[int, ...] = ()
    keeper: Keeper | None = None
    flip: bool = False
    canvas: Picture | None = None

    def build_model(self) -> nn.Module:
        return self.build()

    def loss(self, model: nn.Module, batch: Batch, rng: np.random.Generator) -> Loss:
        """Parts: the published ones, `loss_rpn_cls`, `loss_bbox`, ..., and `objects`, a picture's."""
        del rng  # what is drawn for a picture follows from its own address
        images = ragged(batch, IMAGE)
        pixels, pictures = self.padded(images)
        objects = [self._objects(batch, place, picture) for place, picture in enumerate(pictures)]
        seeds = stacked(batch, DRAW).tolist()
        found = model(pixels, pictures, objects, seeds)
        parts = {name: (one.total / one.items).mean() for name, one in found.items()}
        total = torch.stack(list(parts.values())).sum()
        count = torch.tensor(float(np.mean([len(one.labels) for one in objects])), device=pixels.device)
        return Loss(total, parts={**parts, "objects": count})

    def contents(self, batch: Batch) -> list[str]:
        """See `Describing`."""
        sizes = [f"{image.shape[1]} x {image.shape[2]} pixels" for image in ragged(batch, IMAGE)]
        if LABELS not in batch:  # of an evaluation
            return sizes
        counts = [with_count(len(labels), "object") for labels in ragged(batch, LABELS)]
        return [f"{size}, {count}" for size, count in zip(sizes, counts, strict=True)]

    def _objects(self, batch: Batch, place: int, picture: Picture) -> Objects:
        boxes, labels = ragged(batch, BOXES)[place], ragged(batch, LABELS)[place]
        if not self.masks:
            return Objects(boxes, labels)
        masks = unpacked(ragged(batch, WINDOWS)[place], ragged(batch, PIXELS)[place], picture)
        known = ragged(batch, WINDOWS)[place][:, 0] >= 0
        return Objects(boxes, labels, masks, None if known.all() else known)

    def padded(self, images: Sequence[Tensor]) -> tuple[Tensor, list[Picture]]:
        """What the model sees of pictures: normalised, and padded below and to the right, up to the largest
        of them and a multiple of 32 pixels.

        Returns:
            Float (B, 3, H, W), and the (height, width) of each.
        """
        pictures = [(int(one.shape[1]), int(one.shape[2])) for one in images]
        height, width = self.canvas or (
            -(-max(sides) // MULTIPLE) * MULTIPLE for sides in zip(*pictures, strict=True)
        )
        memory = torch.channels_last if self.channels_last else torch.contiguous_format
        shape = (len(images), 3, height, width)
        pixels = torch.zeros(shape, device=images[0].device).contiguous(memory_format=memory)
        if self.black:
            pixels += self.normalize(torch.zeros_like(images[0][None, :, :1, :1]))
        for place, (image, (tall, wide)) in enumerate(zip(images, pictures, strict=True)):
            pixels[place, :, :tall, :wide] = self.normalize(image[None])[0]
        return pixels, pictures

    def tally(self, device: torch.device) -> DetectionTally:
        """Of `METRICS`; those of masks where the model finds masks."""
        del device  # lists on the CPU
        if self.truth is None:
            raise ValueError("a task without held-out pictures evaluates nothing")
        return DetectionTally(self.answer, self.truth, self.classes, self.masks, self.present, self.keeper)

    def answer(self, model: nn.Module, batch: Batch) -> list[Found]:
        """What the model finds in each picture of an evaluation batch, in all its views together.

        Each goes through the model on its own, so that it has one answer whatever it is batched with.
        """
        found = []
        for place in range(size(batch)):
            tall, wide = stacked(batch, SIZE)[place].tolist()
            views: list[View] = []
            for name in view_names(batch):
                image = ragged(batch, name)[place]
                views.append(self._view(model, image, (tall, wide)))
                if self.flip:
                    views.append(unmirrored(self._view(model, image.flip(2), (tall, wide)), wide))
            kept, shares = views[0] if len(views) == 1 else merged(views, RoiRules())
            boxes = kept.boxes.cpu()
            masks = () if shares is None else codes(shares.cpu(), boxes, (tall, wide))
            found.append(
                Found(boxes.numpy(), kept.scores.float().cpu().numpy(), kept.labels.cpu().numpy(), masks)
            )
        return found

    def _view(self, model: nn.Module, image: Tensor, picture: Picture) -> View:
        """What is found in a picture of (height, width) pixels by its image, uint8 (3, h, w)."""
        tall, wide = picture
        pixels, ((height, width),) = self.padded([image])
        ((kept, shares),) = model(pixels, [(height, width)], scales=[(width / wide, height / tall)])
        boxes = kept.boxes.float().clamp(min=0)
        return kept._replace(boxes=boxes.minimum(boxes.new_tensor([wide, tall, wide, tall]))), shares


def codes(shares_DSS: Tensor, boxes_D4: Tensor, picture: tuple[int, int]) -> tuple[Rle, ...]:
    """The masks of detections, pasted into a picture of (height, width) pixels."""
    windows = (pasted(one, box, picture) for one, box in zip(shares_DSS, boxes_D4, strict=True))
    return tuple(rle_of(Window(one.top, one.left, one.pixels.numpy()), picture) for one in windows)
