"""Training pictures as the model sees them, with their masks, for a person to look at."""

from __future__ import annotations

import numpy as np
import torch

from hornet_train.data.batch import stacked
from hornet_train.tasks.first_batch import as_pixels, first_batch, plan_to_look_at
from hornet_train.tasks.kit_types import Drawn
from hornet_train.tasks.segmentation.build.components import build_task, train_transform
from hornet_train.tasks.segmentation.build.open_data import open_pictures
from hornet_train.tasks.segmentation.metrics import IGNORED
from hornet_train.tasks.segmentation.palette import overlay
from hornet_train.tasks.segmentation.samples import TrainSamples
from hornet_train.tasks.segmentation.schema import SegmentationConfig

_NAMED = 2  # classes in a caption


def draw_batch(config: SegmentationConfig, *, images: int, epoch: int) -> Drawn:
    """The first micro-batch of an epoch, each crop with its mask below it.

    Raises:
        UserError: the data cannot be used.
    """
    opened = open_pictures(config.data)
    assert opened.train is not None
    data = config.data
    plan = plan_to_look_at(len(opened.train), images, seed=config.seed)
    samples = TrainSamples(train_transform(data, config.augment), config.seed)
    loaded = first_batch(
        *(opened.train, samples, plan), epoch=epoch, workers=data.workers, prefetch=data.prefetch
    )
    task = build_task(config, len(opened.classes))
    seen, labels = task.padded(loaded.batch)
    pixels = as_pixels(seen, task.normalize)
    sheets, captions = [], []
    for image_CHW, mask_HW in zip(pixels, labels, strict=True):
        picture = image_CHW.permute(1, 2, 0).contiguous().numpy()
        both = np.vstack([picture, overlay(picture, mask_HW.numpy(), len(opened.classes))])
        sheets.append(torch.from_numpy(both).permute(2, 0, 1))
        captions.append(_caption(mask_HW.numpy(), opened.classes))
    height, width = pixels.shape[2:]
    padding = 1 - float(stacked(loaded.batch, "area").sum()) / labels.numel()
    title = (
        f"{data.source}, epoch {epoch}, crops of {height} x {width} pixels, {padding:.1%} padding, "
        f"seed {config.seed}"
    )
    return Drawn(torch.stack(sheets), captions, loaded.bad, title)


def _caption(mask_HW: np.ndarray, classes: tuple[str, ...]) -> str:
    """The classes of most pixels, with their shares of the crop."""
    counts = np.bincount(mask_HW.reshape(-1), minlength=256)
    order = [int(one) for one in np.argsort(-counts[:IGNORED], kind="stable")[:_NAMED] if counts[one]]
    return ", ".join(f"{classes[label]} {counts[label] / mask_HW.size:.0%}" for label in order) or "no label"
