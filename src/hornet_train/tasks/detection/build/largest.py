"""A batch as large as any that a training of detection may see."""

from __future__ import annotations

import numpy as np
import torch

from hornet_train.data.batch import Batch
from hornet_train.dense.rcnn.roi_head import RoiRules
from hornet_train.tasks.detection.build.components import train_transform
from hornet_train.tasks.detection.build.open_data import ObjectDatasets, usable_objects
from hornet_train.tasks.detection.rle import Window
from hornet_train.tasks.detection.samples import BOXES, DRAW, IMAGE, LABELS, PIXELS, WINDOWS, packed
from hornet_train.tasks.detection.schema import DetectionConfig
from hornet_train.tasks.detection.transforms import TrainTransform

Frame = tuple[int, int]


def largest_batch(config: DetectionConfig, datasets: ObjectDatasets, samples: int) -> Batch | None:
    """Grey pictures of the greatest size, with as many objects as the fullest pictures have, or as train the
    heads of a picture if that is more. None where no size of a picture is known.

    Args:
        config: of the training.
        datasets: of it.
        samples: of a micro-batch.
    """
    pictures = datasets.train
    assert pictures is not None
    known = np.unique(pictures.sizes[pictures.sizes.min(1) > 0], axis=0)
    if not len(known):
        return None
    transform = train_transform(config.data, config.augment)
    height, width = largest_frame(transform, [(int(h), int(w)) for h, w in known], samples)
    sampler = RoiRules().sampler
    fewest = int((config.task.regions or sampler.number) * sampler.positive)
    counts = np.sort(usable_objects(pictures))[::-1][:samples]
    if config.augment.copy_paste:
        counts = counts + counts[0]
    rng = np.random.default_rng(0)
    batch: dict[str, list[torch.Tensor]] = {BOXES: [], LABELS: [], IMAGE: [], WINDOWS: [], PIXELS: []}
    for place in range(samples):
        number = max(fewest, int(counts[place]) if place < len(counts) else 0)
        tall, wide = max(1, height // 4), max(1, width // 4)
        tops = rng.integers(height - tall + 1, size=number)
        lefts = rng.integers(width - wide + 1, size=number)
        corners = np.stack([lefts, tops, lefts + wide, tops + tall], 1).astype(np.float32)
        batch[IMAGE].append(torch.full((3, height, width), 128, dtype=torch.uint8))
        batch[BOXES].append(torch.from_numpy(corners))
        batch[LABELS].append(torch.arange(number) % len(datasets.classes))
        full = np.ones((tall, wide), dtype=bool)
        masks = [Window(int(top), int(left), full) for top, left in zip(tops, lefts, strict=True)]
        for key, value in packed(masks).items():
            batch[key].append(value)
    drawn = {DRAW: torch.arange(samples)}
    if config.model.masks:
        return {**batch, **drawn}
    return {IMAGE: batch[IMAGE], BOXES: batch[BOXES], LABELS: batch[LABELS], **drawn}


def largest_frame(transform: TrainTransform, sizes: list[Frame], samples: int) -> Frame:
    """The greatest (height, width) that a batch may be padded to.

    Args:
        transform: of the pictures.
        sizes: of the stored pictures, (height, width), each once.
        samples: of the batch. Several may have any two shapes: groups of like ones have neighbours, too.
    """
    views = [view for size in sizes for view in transform.extremes(size)]
    if samples == 1:
        return max(views, key=lambda view: view[0] * view[1])
    return max(height for height, _ in views), max(width for _, width in views)
