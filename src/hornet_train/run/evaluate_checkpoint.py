"""An evaluation from its config to its result, whatever the task."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hornet_train.config.schema import EvalConfig
from hornet_train.engine.distributed import World
from hornet_train.engine.evaluation_loop import evaluate, with_collective
from hornet_train.errors import DataError
from hornet_train.models.structure import fuse
from hornet_train.run.loaders import eval_loader
from hornet_train.run.open_weights import find_weights
from hornet_train.run.result_file import data_settings
from hornet_train.tasks.kit import Kit
from hornet_train.tasks.kit_types import Evaluation, EvaluationSet, Weights, samples_of
from hornet_train.track.console import Console

Metrics = Mapping[str, float]


def run_evaluation(
    kit: Kit[Any, Any], config: EvalConfig, *, world: World, console: Console
) -> dict[str, Any]:
    """Measure a checkpoint on every set that the config names. Every rank together.

    Returns:
        What eval.json holds of it, the same on every rank.

    Raises:
        UserError: the checkpoint is damaged or for another model, or the data are not there.
    """
    assert config.checkpoint is not None
    weights, job = world.on_all_ranks(lambda: _open(kit, config, world))
    if not world.same_on_all_ranks(_identity(weights, job)):  # else some would wait for ever
        raise DataError(
            "the processes see other sets, images or weights than each other: data.root and checkpoint "
            "must be the same for all"
        )
    for note in job.notes:
        console.warn(note) if note.startswith("checkpoint skipped") else console.say(note)
    begin = time.perf_counter()
    several = sum(len(one.parts) for one in job.sets) > 1  # the only one is in the table
    measured = [_measure(kit, job, one, config, world, console if several else None) for one in job.sets]
    seconds = time.perf_counter() - begin
    summaries = {one.name: kit.summary(one, parts) for one, parts in zip(job.sets, measured, strict=True)}
    if world.is_main:
        for note in kit.draw_evaluation(job):
            console.say(note)
    count = sum(part["count"] for parts in measured for part in parts.values())
    return {
        **(
            {"suites": summaries, "not_found": list(job.not_found)}
            if job.several
            else summaries[job.sets[0].name]
        ),
        "images_per_second": count / seconds,
        "checkpoint": os.path.abspath(weights.place),
        "weights": weights.name,
        "init_map": config.init_map,
        "step": weights.step,
        "model": config.model.name,
        "data": config.data.source,
        "data_settings": data_settings(config),
        **job.facts,
        "precision": config.precision,
        "processes": world.size,
    }


def _open(kit: Kit[Any, Any], config: EvalConfig, world: World) -> tuple[Weights, Evaluation]:
    """The weights, and the model with them on its device, with the sets it is measured on."""
    assert config.checkpoint is not None
    weights = find_weights(Path(config.checkpoint), config.weights)
    job = kit.open_evaluation(config, weights, world.device)
    model = job.model.to(world.device)
    if config.fuse and job.image_size is not None:
        fuse(model, job.image_size)
    notes = list(dict.fromkeys([*weights.notes, *job.notes]))
    return weights, replace(job, model=model, notes=notes)


def _identity(weights: Weights, job: Evaluation) -> list[object]:
    """What makes it this evaluation: which samples of which sets, and the weights' step and name."""
    parts = [
        (one.name, name, samples_of(source), source.fingerprint)
        for one in job.sets
        for name, source in one.parts.items()
    ]
    return [weights.step, weights.name, *parts]


def _measure(
    kit: Kit[Any, Any],
    job: Evaluation,
    one: EvaluationSet,
    config: EvalConfig,
    world: World,
    console: Console | None,
) -> dict[str, dict[str, float]]:
    """The metrics of each part of a set; `console` says each as it is found."""
    found = {}
    for name, source in one.parts.items():
        data = eval_loader(source, one.samples, config.data, world.device, on_bad="error")
        batches = data.batches(world.rank, world.size, config.batch_size)
        counts = world.gather(data.batch_count(world.rank, world.size, config.batch_size))
        if (
            max(counts) - min(counts) > 1
        ):  # a rank that is done long before the others would wait for too long
            batches = with_collective(batches, max(counts), world.barrier)
        models = {"model": job.model}
        found[name] = evaluate(
            one.task, models, batches, world=world, precision=config.precision, name=data.locate
        )["model"]
        if console is not None:
            headline, metrics = kit.metrics.rows[0], found[name]
            part = f"{one.name}/{name}" if name else one.name
            value = f"{headline.label} {metrics[headline.key]:.3f}"
            console.say(f"{part}: {value} of {metrics['count']:,} images")
    return found
