"""Evaluation: every sample counts once, on any number of processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from hornet_train.data.loader import Batch
from hornet_train.engine.distributed import World
from hornet_train.engine.precision import PrecisionName, autocast
from hornet_train.engine.task import Task
from hornet_train.track.metrics import Sums


@torch.inference_mode()
def evaluate(
    task: Task,
    models: Mapping[str, nn.Module],
    batches: Iterator[Batch],
    *,
    world: World,
    precision: PrecisionName,
) -> dict[str, dict[str, float]]:
    """The task's metrics of each model over all ranks' batches, with `count`; the data are read once.

    The ranks' shares differ by at most one sample and are not padded, so no collective runs until the end,
    where the sums over all samples are added up.
    """
    training = {name: model.training for name, model in models.items()}
    sums = {name: Sums(device=world.device) for name in models}
    for model in models.values():
        world.share_buffers(model.eval())
    for batch in batches:
        for name, model in models.items():
            with autocast(precision, world.device):
                sums[name].add(**task.evaluate(model, batch))
    results = {}
    for name, model in models.items():
        model.train(training[name])
        known = world.broadcast(sums[name].names)  # rank 0 has a sample where there is one; others may not
        sums[name].add(**dict.fromkeys(known, 0.0))
        sums[name].reduce(world.all_reduce)
        totals = sums[name].read()
        results[name] = {**task.metrics(totals), "count": round(totals["count"])}
    return results
