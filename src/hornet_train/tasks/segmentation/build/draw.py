"""Training pictures as the model sees them, with their masks, for a person to look at."""

from __future__ import annotations

import numpy as np
import torch

from hornet_train.data.batch import ragged, stacked
from hornet_train.data.loader import LoaderSettings, TrainLoader
from hornet_train.data.order import EpochPlan
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
    size = min(images, len(opened.train))
    plan = EpochPlan(
        samples=len(opened.train),
        batch_size=size,
        micro_batch_size=size,
        rank=0,
        world_size=1,
        seed=config.seed,
        drop_last=False,
    )
    transform = train_transform(config.data, config.augment)
    samples = TrainSamples(transform, config.seed)
    settings = LoaderSettings(torch.device("cpu"), config.data.workers, config.data.prefetch)
    step = epoch * plan.steps_per_epoch
    loaded = next(TrainLoader(opened.train, samples, plan, settings).batches(step, step + 1))
    task = build_task(config, len(opened.classes))
    seen, labels = task.padded(loaded.batch)
    mean, std = (torch.tensor(values)[:, None, None] for values in (task.normalize.mean, task.normalize.std))
    pixels = ((seen * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    sheets, captions = [], []
    for image_CHW, mask_HW in zip(pixels, labels, strict=True):
        picture = image_CHW.permute(1, 2, 0).contiguous().numpy()
        both = np.vstack([picture, overlay(picture, mask_HW.numpy(), len(opened.classes))])
        sheets.append(torch.from_numpy(both).permute(2, 0, 1))
        captions.append(_caption(mask_HW.numpy(), opened.classes))
    height, width = pixels.shape[2:]
    padding = 1 - float(stacked(loaded.batch, "area").sum()) / labels.numel()
    title = (
        f"{config.data.source}, epoch {epoch}, crops of {height} x {width} pixels, {padding:.1%} padding, "
        f"seed {config.seed}"
    )
    assert len(ragged(loaded.batch, "mask")) == len(sheets)
    return Drawn(torch.stack(sheets), captions, loaded.bad, title)


def _caption(mask_HW: np.ndarray, classes: tuple[str, ...]) -> str:
    """The classes of most pixels, with their shares of the crop."""
    counts = np.bincount(mask_HW.reshape(-1), minlength=256)
    order = [int(one) for one in np.argsort(-counts[:IGNORED], kind="stable")[:_NAMED] if counts[one]]
    return ", ".join(f"{classes[label]} {counts[label] / mask_HW.size:.0%}" for label in order) or "no label"
