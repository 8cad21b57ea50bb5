"""What the start panel says of a run."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from hornet_train.builders.data import Sources, samples_of
from hornet_train.config.schema import Config
from hornet_train.data.sources import FolderSource
from hornet_train.engine.trainer import Trainer
from hornet_train.models import HorNet
from hornet_train.models.complexity import Complexity


def facts(
    config: Config, sources: Sources, trainer: Trainer, folder: Path, cost: Complexity
) -> dict[str, str | list[str]]:
    """Name -> value, in the order they are shown; `cost` is the model's."""
    assert sources.train is not None
    world, plan, settings = trainer.world, trainer.plan, trainer.settings
    held_out = f"{samples_of(sources.val):,} held out" if sources.val is not None else "none held out"
    why = "shares of shards" if sources.dealt else "data.drop_last"
    left_out = f"; {plan.dropped:,} an epoch are left out ({why})" if plan.dropped else ""
    if isinstance(sources.train, FolderSource) and sources.train.ignored:
        left_out += f"; {sources.train.ignored:,} files that are no images"
    pieces = -(-config.batch_size // (plan.micro_batch_size * world.size))
    warmup = config.schedule.warmup
    recipe = config.recipe
    published = f"; published top-1 {recipe.top1}" if recipe.top1 is not None else ""
    threads = f", {_many(torch.get_num_threads(), 'thread')} each" if world.device.type == "cpu" else ""
    spread = ", the model spread over them (FSDP2)" if config.dist.strategy == "fsdp" else ""
    return {
        "recipe": f"{recipe.name} ({recipe.source}{published}; "
        f"{'run' if recipe.run_by_us else 'not run'} by us)",
        "model": f"{config.model.name}: {cost.parameters:,} parameters, {cost.macs / 1e9:.3g} GMACs "
        f"at {config.data.image_size}x{config.data.image_size}",
        "data": f"{config.data.source}: {samples_of(sources.train):,} training images, {held_out}, "
        f"{len(sources.classes):,} classes{left_out}",
        "batch": f"{config.batch_size} = {_many(world.size, 'process')} x {_many(pieces, 'micro-batch')} x "
        f"{_many(plan.micro_batch_size, 'image')}",
        "learning rate": f"{config.optim.lr:g} at its peak, {config.schedule.kind}, warmup {warmup}",
        "precision": f"{config.precision}{', compiled' if config.compile else ''}",
        "devices": f"{world.size} x {_device_name(world.device)}{threads}{spread}",
        "steps": f"{settings.total_steps:,} = {config.epochs} of {plan.steps_per_epoch:,} an epoch",
        "writes to": str(folder),
    }


def filter_notes(model: nn.Module, image_size: int) -> list[str]:
    """A sentence where images of a size cost more than they need to."""
    if not isinstance(model, HorNet) or not model.resizes_filters(image_size):
        return []
    return [
        f"the global filters are stored for other images than {image_size} x {image_size} and resized in "
        f"every forward; model.args.img_size={image_size} resizes them once"
    ]


def _many(count: int, noun: str) -> str:
    ending = "" if count == 1 else "es" if noun.endswith(("s", "ch")) else "s"
    return f"{count:,} {noun}{ending}"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
