"""Evaluation: every sample counts once, on any number of processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack

import torch
from torch import nn

from hornet_train.data.loader import Loaded
from hornet_train.engine.distributed import World
from hornet_train.engine.precision import PrecisionName, autocast
from hornet_train.engine.sharding import whole
from hornet_train.engine.task import Task
from hornet_train.errors import DataError


def in_lockstep(batches: Iterator[Loaded], meetings: int, meet: Callable[[], object]) -> Iterator[Loaded]:
    """A rank's batches, with a collective that every rank enters equally often, however many batches it has.

    It is entered before each batch. A rank that has fewer batches than another enters it for those, too,
    after its last one; there it waits for the others batch by batch, so that no collective takes longer than
    a batch and each rank soon learns what is agreed.

    Args:
        meetings: how often, the same on every rank: the greatest number of batches that any rank has.
        meet: the collective; may raise to give the evaluation up.
    """
    for loaded in batches:
        if meetings > 0:
            meetings -= 1
            meet()
        yield loaded
    for _ in range(meetings):
        meet()


def evaluate(
    task: Task,
    models: Mapping[str, nn.Module],
    batches: Iterator[Loaded],
    *,
    world: World,
    precision: PrecisionName,
) -> dict[str, dict[str, float]]:
    """The task's metrics of each model over all ranks' batches; the data are read once.

    With them come `count`, the number of samples they are of, and where it is not 0 `bad`, how many more
    could not be read.

    The ranks' shares may differ and are not padded, so no collective runs until the end, where their
    tallies are merged; but for those that come with the batches, see `in_lockstep`.

    Raises:
        SampleError: a sample cannot be read, unless the loader skips those.
        DataError: none can.
    """
    training = {name: model.training for name, model in models.items()}
    tallies = {name: task.tally(world.device) for name in models}
    for model in models.values():
        world.share_buffers(model.eval())
    bad, example = 0, ""
    with ExitStack() as stack:
        for model in models.values():
            stack.enter_context(whole(model))  # outside of inference mode: the weights are trained again
        stack.enter_context(torch.inference_mode())
        for loaded in batches:
            bad += len(loaded.bad)
            if loaded.bad:
                example = f" ({loaded.bad[0].where}: {loaded.bad[0].reason}, ...)"
            for name, model in models.items() if loaded.batch else ():
                with autocast(precision, world.device):
                    tallies[name].update(model, loaded.batch)
    bad = sum(world.gather(bad))
    results = {}
    for name, model in models.items():
        model.train(training[name])
        tallies[name].merge(world)
        count = tallies[name].count
        if not count:
            raise DataError(f"none of the {bad} samples could be read{example}; fetch them again")
        results[name] = {**tallies[name].result(), "count": count, **({"bad": bad} if bad else {})}
    return results
