"""A training batch as the model sees it, for a person to look at."""

from __future__ import annotations

import torch
from torch import Tensor

from hornet_train.data.address import batch_rng, device_seed
from hornet_train.data.sources.source import Shards
from hornet_train.errors import ConfigError
from hornet_train.tasks.classification.build.components import build_task, growth_of, train_transform
from hornet_train.tasks.classification.build.open_data import open_data
from hornet_train.tasks.classification.samples import TrainSamples
from hornet_train.tasks.classification.schema import ClassificationConfig
from hornet_train.tasks.first_batch import as_pixels, first_batch, plan_to_look_at
from hornet_train.tasks.kit_types import Drawn


def draw_batch(config: ClassificationConfig, *, images: int, epoch: int) -> Drawn:
    """The first micro-batch of an epoch, with the draws that a run of that batch size has there.

    Raises:
        UserError: the data cannot be used.
    """
    datasets = open_data(config.data)
    source, classes = datasets.train, datasets.classes
    assert source is not None
    if isinstance(source, Shards):
        raise ConfigError("data.streaming=true: what is drawn is read at random: data.streaming=false")
    plan = plan_to_look_at(len(source), images, seed=config.seed, repeats=config.augment.repeats)
    per_epoch = plan.steps_per_epoch
    if config.epochs.unit == "ep":
        total = config.epochs.steps(steps_per_epoch=per_epoch)
    elif config.augment.start_size is not None:
        raise ConfigError([f"epochs={config.epochs}: images grow with the epochs here, so give it in epochs"])
    else:
        total = per_epoch
    growth = growth_of(config, steps_per_epoch=per_epoch, total_steps=total)
    samples = TrainSamples(train_transform(config, growth), config.seed, exif=config.data.exif)
    step = epoch * per_epoch
    reading = {"workers": config.data.workers, "prefetch": config.data.prefetch}
    loaded = first_batch(source, samples, plan, epoch=epoch, **reading)
    task = build_task(config, len(classes))
    torch.manual_seed(device_seed(config.seed, step, 0, 0))
    mixed, targets = task.prepared(loaded.batch, batch_rng(config.seed, step, 0, 0))
    pixels = as_pixels(mixed, task.normalize).expand(-1, 3, -1, -1)
    smoothing = config.task.label_smoothing / len(classes)
    captions = [_caption(row - smoothing, classes) for row in targets]
    height, width = pixels.shape[2:]
    title = f"{config.data.source}, epoch {epoch}, {height} x {width} pixels, seed {config.seed}"
    return Drawn(pixels, captions, loaded.bad, title)


def _caption(shares: Tensor, classes: tuple[str, ...]) -> str:
    """The one or two classes of an image, with their shares where there are two."""
    total = shares.sum()
    most = shares.topk(2)
    found = [
        (classes[int(label)], round(100 * float(share / total)))
        for share, label in zip(most.values, most.indices, strict=True)
        if share / total > 0.005
    ]
    return found[0][0] if len(found) == 1 else " + ".join(f"{name}: {share} %" for name, share in found)
