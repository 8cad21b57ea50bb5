"""What the start panel says of a run."""

from __future__ import annotations

import torch

from hornet_train.config.schema import Config
from hornet_train.engine.trainer import Trainer
from hornet_train.tasks.kit_types import Datasets, samples_of
from hornet_train.track.metric_table import MetricTable

_COMPILED = {False: "", True: ", compiled", "blocks": ", blocks compiled"}


def start_facts(
    metrics: MetricTable, config: Config, datasets: Datasets, trainer: Trainer, model: str
) -> dict[str, str | list[str]]:
    """Name -> value, in the order they are shown.

    Args:
        metrics: those of the task, by which a published result is named.
        model: what is said of the model.
    """
    assert datasets.train is not None
    world, plan = trainer.world, trainer.plan
    held_out = f"{samples_of(datasets.val):,} held out" if datasets.val is not None else "none held out"
    why = "shares of shards" if datasets.dealt else "data.drop_last"
    left_out = f"; {plan.dropped:,} an epoch are left out ({why})" if plan.dropped else ""
    left_out += "".join(f"; {fact}" for fact in datasets.facts)
    pieces = -(-config.batch_size // (plan.micro_batch_size * world.size))
    warmup = config.schedule.warmup
    shift = trainer.state.calendar.shift
    changed = f" ({shift:+,} by another batch size before)" if shift else ""
    recipe = config.recipe
    published = "".join(
        f"; published {metrics.info(key).label} {value}" for key, value in recipe.published.items()
    )
    threads = f", {_many(torch.get_num_threads(), 'thread')} each" if world.device.type == "cpu" else ""
    spread = ", the model spread over them (FSDP2)" if config.dist.strategy == "fsdp" else ""
    return {
        "recipe": f"{recipe.name} ({recipe.source}{published}; "
        f"{'run' if recipe.run_by_us else 'not run'} by us)",
        "model": model,
        "data": f"{config.data.source}: {samples_of(datasets.train):,} training images, {held_out}, "
        f"{len(datasets.classes):,} classes{left_out}",
        "batch": f"{config.batch_size} = {_many(world.size, 'process')} x {_many(pieces, 'micro-batch')} x "
        f"{_many(plan.micro_batch_size, 'image')}",
        "learning rate": f"{config.optim.lr:g} at its peak, {config.schedule.kind}, warmup {warmup}",
        "precision": f"{config.precision}{_COMPILED[config.compile]}",
        "devices": f"{world.size} x {_device_name(world.device)}{threads}{spread}",
        "steps": f"{trainer.total_steps:,}{changed} = {config.epochs} of {plan.steps_per_epoch:,} an epoch",
    }


def _many(count: int, noun: str) -> str:
    ending = "" if count == 1 else "es" if noun.endswith(("s", "ch")) else "s"
    return f"{count:,} {noun}{ending}"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
