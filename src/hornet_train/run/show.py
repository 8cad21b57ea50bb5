"""A training batch as the model sees it, for a person to look at."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from hornet_train.data.address import batch_rng, device_seed
from hornet_train.data.loader import LoaderSettings, TrainLoader
from hornet_train.data.order import EpochPlan
from hornet_train.data.worker import BadSample
from hornet_train.errors import ConfigError
from hornet_train.run.data import build_sources, build_task, check_classes
from hornet_train.run.loading import train_transform
from hornet_train.tasks.classification.samples import TrainSamples
from hornet_train.tasks.classification.schema import ClassificationConfig
from hornet_train.tasks.classification.sources import LabelledShards


@dataclass(frozen=True)
class Shown:
    """One micro-batch.

    Attributes:
        images: uint8 (B, 3, S, S).
        captions: of each image, its classes and their shares.
        bad: samples for which others stand in.
    """

    images: Tensor
    captions: list[str]
    bad: list[BadSample]


def shown_batch(config: ClassificationConfig, *, images: int, epoch: int) -> Shown:
    """The first micro-batch of an epoch, with the draws that a run of that batch size has there.

    Raises:
        UserError: the data cannot be used.
    """
    sources = build_sources(config.data)
    assert sources.train is not None
    if isinstance(sources.train, LabelledShards):
        raise ConfigError("data.streaming=true: what is shown is read at random: data.streaming=false")
    check_classes(sources)
    size = min(images, len(sources.train))
    plan = EpochPlan(
        samples=len(sources.train),
        batch_size=size,
        micro_batch_size=size,
        rank=0,
        world_size=1,
        seed=config.seed,
        drop_last=False,
        repeats=config.augment.repeats,
    )
    per_epoch = plan.steps_per_epoch
    if config.epochs.unit == "ep":
        total = config.epochs.steps(steps_per_epoch=per_epoch)
    elif config.augment.start_size is not None:
        raise ConfigError([f"epochs={config.epochs}: images grow with the epochs here, so give it in epochs"])
    else:
        total = per_epoch
    grow = config.augment.grow_until.steps(steps_per_epoch=per_epoch, total_steps=total) / per_epoch
    samples = TrainSamples(train_transform(config.data, config.augment, grow), config.seed)
    step = epoch * per_epoch
    settings = LoaderSettings(torch.device("cpu"), config.data.workers, config.data.prefetch)
    loaded = next(TrainLoader(sources.train, samples, plan, settings).batches(step, step + 1))
    task = build_task(config.model, config.data, len(sources.classes), config)
    torch.manual_seed(device_seed(config.seed, step, 0, 0))
    mixed, targets = task.prepared(loaded.batch, batch_rng(config.seed, step, 0, 0))
    mean, std = (torch.tensor(values)[:, None, None] for values in (config.data.mean, config.data.std))
    pixels = ((mixed * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
    smoothing = config.task.label_smoothing / len(sources.classes)
    captions = [_caption(row - smoothing, sources.classes) for row in targets]
    return Shown(pixels, captions, loaded.bad)


def _caption(shares: Tensor, classes: tuple[str, ...]) -> str:
    """The one or two classes of an image, with their shares where there are two."""
    whole = shares.sum()
    most = shares.topk(2)
    told = [
        (classes[int(label)], round(100 * float(share / whole)))
        for share, label in zip(most.values, most.indices, strict=True)
        if share / whole > 0.005
    ]
    return told[0][0] if len(told) == 1 else " + ".join(f"{name} {share} %" for name, share in told)
