"""Micro-batches of a single image, which batch norm may refuse: found out before a training, for any task."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hornet_train.data.address import batch_rng
from hornet_train.data.batch import to_device
from hornet_train.data.collate import Collate
from hornet_train.data.order import Address, Plan
from hornet_train.data.sources.source import Shards, Source
from hornet_train.data.worker import Samples
from hornet_train.engine.task import Task
from hornet_train.errors import ConfigError, SampleError
from hornet_train.tasks.model_check import more_than_one_image, single_image_step

SINGLE_VALUE = "Expected more than 1 value per channel when training"  # torch's message


def check_single_images(
    task: Task,
    model: nn.Module,
    source: Source | Shards,
    samples: Samples,
    plan: Plan,
    *,
    total_steps: int,
    processes: int,
) -> None:
    """Refuse such micro-batches where the model cannot be trained on one image: it is tried with the first.

    Args:
        model: on its device; it is not changed.
        total_steps: of the run, which may end before the shorter last step of an epoch.

    Raises:
        ConfigError: there are such micro-batches on some rank; the same on every rank.
    """
    step = single_image_step(plan, total_steps)
    if step is None or not any(isinstance(module, _BatchNorm) for module in model.modules()):
        return
    try:
        fields = next(iter(source.read(0, 0))) if isinstance(source, Shards) else source.read(0)
        sample = samples.make(Address(0, 0), samples.decode(fields))
    except (SampleError, StopIteration):  # damaged: the training has others in its place
        return
    collated = Collate(samples.ragged, "skip")([({**sample, "index": 0}, [])])
    assert not isinstance(collated, SampleError)
    device = next(model.parameters()).device
    with torch.random.fork_rng(), torch.no_grad():
        try:
            task.loss(deepcopy(model).train(), to_device(collated.batch(), device), batch_rng(0, 0, 0, 0))
        except ValueError as error:
            if SINGLE_VALUE not in str(error):
                raise
            raise ConfigError(
                f"{more_than_one_image(plan, step, processes)} (the model cannot be trained on one image at "
                "a time: batch norm would have a single value a channel)"
            ) from error
