"""Evaluation: every sample counts once, on any number of processes."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from hornet_train.engine.distributed import World
from hornet_train.engine.precision import PrecisionName, autocast
from hornet_train.engine.task import Batch, Task
from hornet_train.track.metrics import Sums


@torch.inference_mode()
def evaluate(
    task: Task, model: nn.Module, batches: Iterator[Batch], *, world: World, precision: PrecisionName
) -> dict[str, float]:
    """The task's metrics over all ranks' batches, and `count`.

    The ranks' shares differ by at most one sample and are not padded, so no collective runs until the end,
    where the sums over all samples are added up.
    """
    was_training = model.training
    model.eval()
    sums = Sums(device=world.device)
    for batch in batches:
        with autocast(precision, world.device):
            sums.add(**task.evaluate(model, batch))
    model.train(was_training)
    names = world.broadcast(sums.names)  # rank 0 has a sample wherever there is one; others may have none
    sums.add(**dict.fromkeys(names, 0.0))
    sums.reduce(world.all_reduce)
    totals = sums.read()
    return {**task.metrics(totals), "count": round(totals["count"])}
