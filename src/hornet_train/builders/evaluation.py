"""From an evaluation config to a model with its weights, and the held-out images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from hornet_train.builders.data import build_sources, build_task, eval_samples
from hornet_train.builders.facts import filter_notes, measured
from hornet_train.builders.weights import Weights, classifier_name, find_weights, head_rows, load
from hornet_train.config.schema import EvalConfig
from hornet_train.data.loader import EvalLoader, Reading
from hornet_train.engine.distributed import World
from hornet_train.errors import DataError
from hornet_train.tasks.classification import Classification


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation needs."""

    task: Classification
    model: nn.Module
    data: EvalLoader
    weights: Weights
    notes: list[str]


def build_evaluation(config: EvalConfig, *, world: World) -> Evaluation:
    """Model with its weights, and the held-out images.

    Raises:
        UserError: the checkpoint is damaged, for another model, or for other classes than the data's.
    """
    assert config.checkpoint is not None
    weights = find_weights(Path(config.checkpoint), config.weights)
    # a 22K checkpoint's classes are not those of the images
    classes = weights.classes or None if config.init_map is None else None
    source = build_sources(config.data, training=False, classes=classes).val
    assert source is not None
    task = build_task(config.model, config.data, len(source.classes))
    model = task.build_model()
    rows = head_rows(Path(config.init_map)) if config.init_map is not None else None
    head = weights.tensors.get(f"{classifier_name(model)}.weight")
    if rows is None and head is not None and head.ndim and head.shape[0] != len(source.classes):
        raise DataError(
            f"{weights.place} tells {head.shape[0]} classes apart, the images of data.source="
            f"{config.data.source} are of {len(source.classes)}: if the former include the latter, "
            "init_map=<file> says which rows of the head these are"
        )
    notes = [*weights.notes, *load(model, weights, rows=rows)]
    names = weights.classes
    if rows is not None and names:
        names = tuple(names[row] for row in rows.tolist())
    if renamed := sum(a != b for a, b in zip(names, source.classes, strict=False)):
        notes.append(
            f"{renamed} classes are called otherwise than in training (the first is {names[0]!r} "
            f"there, {source.classes[0]!r} here): labels go by their order"
        )
    measured(model, config.model.name, config.data.image_size)
    notes += filter_notes(model, config.data.image_size)
    reading = Reading(world.device, config.data.workers, config.data.prefetch)
    data = EvalLoader(eval_samples(source, config.data), reading, on_bad=config.data.on_bad)
    return Evaluation(task, model.to(world.device), data, weights, notes)
