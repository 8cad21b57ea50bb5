"""Evaluation: every sample counts once, on any number of processes."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import nn

from hornet_train.data.loader import EvalData, Loaded
from hornet_train.data.worker import BadSample
from hornet_train.engine.distributed import World
from hornet_train.engine.out_of_memory import EVAL_REMEDY, DoesNotFit, fits, out_of_memory
from hornet_train.engine.precision import PrecisionName, autocast
from hornet_train.engine.sharding import unsharded
from hornet_train.engine.state import Best, TrainState
from hornet_train.engine.task import Task
from hornet_train.errors import DataError, DivergenceError, SampleError
from hornet_train.track.metric_table import MetricInfo

_NAMED = 10  # unreadable samples of an evaluation that are named one by one
_log = logging.getLogger("hornet_train")

Report = Callable[[Sequence[BadSample]], None]
EvaluationResults = dict[str, dict[str, float]]  # "model" or "ema" -> its metrics


def with_collective(
    batches: Iterator[Loaded], calls: int, collective: Callable[[], object]
) -> Iterator[Loaded]:
    """A rank's batches, with a collective call before each of the first `calls`.

    Ranks may have different numbers of batches, but all must enter a collective equally often. A rank with
    fewer batches makes its remaining calls after its last one. There it waits for the others batch by batch,
    so that no call takes longer than a batch, and each rank soon learns what the collective decides.

    Args:
        calls: the same on every rank: the greatest number of batches that any rank has.
        collective: may raise, to stop the evaluation.
    """
    for loaded in batches:
        if calls > 0:
            calls -= 1
            collective()
        yield loaded
    for _ in range(calls):
        collective()


def evaluate(
    task: Task,
    models: Mapping[str, nn.Module],
    batches: Iterator[Loaded],
    *,
    world: World,
    precision: PrecisionName,
    report: Report | None = None,
    name: Callable[[int], str] = "sample {}".format,
) -> EvaluationResults:
    """The task's metrics of each model over all ranks' batches. The data are read once for all models.

    Each result also has `count`, the number of samples, and `bad`, the number of unreadable samples, unless
    that is 0.

    The ranks' shares may differ in size and are not padded. So no collective runs until the end, where the
    tallies are merged, except those that come with the batches (see `with_collective`).

    Args:
        report: is given the unreadable samples, on rank 0; by default they are named in the log.
        name: what a sample is called, by its index.

    Raises:
        OutOfMemory: a batch does not fit.
        SampleError: a sample cannot be read, unless the loader skips such samples.
        DataError: none of the samples can be read.
    """
    training = {name: model.training for name, model in models.items()}
    tallies = {name: task.tally(world.device) for name in models}
    for model in models.values():
        world.broadcast_buffers(model.eval())
    bad: list[BadSample] = []
    with ExitStack() as stack:
        stack.enter_context(_named(task, name))
        for model in models.values():
            stack.enter_context(unsharded(model))  # outside of inference mode: the weights are trained again
        stack.enter_context(torch.inference_mode())
        for loaded in _with_remedy(batches):
            bad += loaded.bad
            for key, model in models.items() if loaded.batch else ():
                with autocast(precision, world.device), fits(loaded.batch):
                    tallies[key].update(model, loaded.batch)
    bad = [one for of_rank in world.gather(bad) for one in of_rank]
    if world.is_main:
        (report or name_left_out)(bad)
    results = {}
    for key, model in models.items():
        model.train(training[key])
        tallies[key].merge(world)
        count = tallies[key].count
        if not count:
            example = f" ({bad[0].where}: {bad[0].reason}, ...)" if bad else ""
            raise DataError(f"none of the {len(bad)} samples could be read{example}; fetch them again")
        results[key] = {**tallies[key].result(), "count": count, **({"bad": len(bad)} if bad else {})}
    return results


@contextmanager
def _named(task: Task, name: Callable[[int], str]) -> Iterator[None]:
    """Says what a batch held that does not fit."""
    try:
        yield
    except DoesNotFit as error:
        raise out_of_memory(task, error.batch, "in an evaluation", name, EVAL_REMEDY) from error


def _with_remedy(batches: Iterator[Loaded]) -> Iterator[Loaded]:
    """The batches; the error of a sample that cannot be read says how to go on without it."""
    try:
        yield from batches
    except SampleError as error:
        remedy = f"{error.remedy}; or leave such samples out and count them: data.on_bad=skip"
        raise SampleError(error.where, error.reason, remedy) from error


def name_left_out(bad: Sequence[BadSample]) -> None:
    """Log the unreadable samples of an evaluation, the first of them by name."""
    for one in bad[:_NAMED]:
        _log.warning("left out of the evaluation: %s: %s", one.where, one.reason)
    if len(bad) > _NAMED:
        _log.warning("left out of the evaluation: %d more samples that cannot be read", len(bad) - _NAMED)


def evaluate_state(
    state: TrainState,
    task: Task,
    data: EvalData,
    *,
    batch_size: int,
    precision: PrecisionName,
    world: World,
    before_batch: Callable[[], object],
    report: Report | None = None,
) -> EvaluationResults:
    """The metrics of a run's model ("model") and of its averaged weights ("ema", if there are any).

    Args:
        before_batch: a collective, called before each batch; may raise, to stop the evaluation.
        report: see `evaluate`.

    Raises:
        DataError: the samples cannot be read, or not each of them was counted once.
    """
    models = {"model": state.model}
    if state.average is not None:
        models["ema"] = state.average.module
    # ranks may have different numbers of batches: of streamed data each reads complete shards
    calls = max(world.gather(data.batch_count(world.rank, world.size, batch_size)))
    batches = with_collective(data.batches(world.rank, world.size, batch_size), calls, before_batch)
    results = evaluate(
        task, models, batches, world=world, precision=precision, report=report, name=data.locate
    )
    for metrics in results.values():
        counted = metrics["count"] + metrics.get("bad", 0)
        if counted != len(data):
            raise DataError(f"evaluation counted {counted} samples of {len(data)}")
    return results


def update_best(state: TrainState, headline: MetricInfo, results: Mapping[str, Mapping[str, float]]) -> bool:
    """Record results of the present step that are the best so far; returns whether there is one.

    Weights whose loss is not finite are never the best, whatever their other metrics are.

    Raises:
        ValueError: the results have no such metric: the task's tally does not give it.
    """
    improved = False
    for weights, metrics in results.items():
        if headline.key not in metrics:
            raise ValueError(
                f"evaluations do not give {headline.key!r}, the task's first metric: {[*metrics]}"
            )
        best, value = state.best, metrics[headline.key]
        if math.isfinite(metrics.get("loss", 0.0)) and headline.better(
            value, than=best.value if best else None
        ):
            state.previous_bests += [best] if best else []
            state.best = Best(state.step, weights, headline.key, value)
            improved = True
    return improved


def check_finite(step: int, results: EvaluationResults) -> None:
    """Refuse to call a training done whose last evaluation has no finite loss.

    Raises:
        DivergenceError: neither the weights nor their average have one.
    """
    if results and not any(math.isfinite(metrics.get("loss", 0.0)) for metrics in results.values()):
        raise DivergenceError(
            f"the loss of the evaluation at step {step:,} is not finite: the training has diverged; lower "
            "optim.lr or lengthen schedule.warmup (docs/numerics.md says more)"
        )
