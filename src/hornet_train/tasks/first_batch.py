"""The first batch of an epoch, for a person to look at: with the draws that a training has there."""

from __future__ import annotations

import torch
from torch import Tensor

from hornet_train.data.loader import Loaded, LoaderSettings, TrainLoader
from hornet_train.data.order import EpochPlan, Shapes
from hornet_train.data.sources.source import Source
from hornet_train.data.worker import Samples
from hornet_train.images.normalize import Normalize


def plan_to_look_at(
    samples: int, images: int, *, seed: int, repeats: int = 1, shapes: Shapes | None = None
) -> EpochPlan:
    """One process, whose steps have so many images in one micro-batch, or all that there are."""
    size = min(images, samples)
    return EpochPlan(
        samples=samples,
        batch_size=size,
        micro_batch_size=size,
        rank=0,
        world_size=1,
        seed=seed,
        drop_last=False,
        repeats=repeats,
        shapes=shapes,
    )


def first_batch(
    source: Source, samples: Samples, plan: EpochPlan, *, epoch: int, workers: int, prefetch: int
) -> Loaded:
    """The first micro-batch of an epoch, on the CPU.

    Raises:
        SampleError: a sample cannot be read, and none that may stand in for it.
    """
    step = epoch * plan.steps_per_epoch
    settings = LoaderSettings(torch.device("cpu"), workers, prefetch)
    return next(TrainLoader(source, samples, plan, settings).batches(step, step + 1))


def as_pixels(images_BCHW: Tensor, normalize: Normalize) -> Tensor:
    """Normalised images as they look: uint8 (B, C, H, W)."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (normalize.mean, normalize.std))
    return ((images_BCHW * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
