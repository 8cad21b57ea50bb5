"""From an evaluation config to a model with its weights, and the held-out images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor, nn

from hornet_train.data.loader import EvalData, LoaderSettings
from hornet_train.engine.distributed import World
from hornet_train.engine.evaluate import evaluate, with_collective
from hornet_train.errors import DataError
from hornet_train.models.structure import fuse
from hornet_train.run.data import build_task, samples_of
from hornet_train.run.facts import filter_notes, measured
from hornet_train.run.loading import eval_data
from hornet_train.run.suites import build_suites
from hornet_train.run.weights import Weights, classifier_name, find_weights, head_rows, load
from hornet_train.tasks.classification.schema import ClassificationEval
from hornet_train.tasks.classification.sources import imagenet_wnids
from hornet_train.tasks.classification.suites import Suite
from hornet_train.tasks.classification.task import Classification


@dataclass(frozen=True)
class MeasuredSet:
    """One set as a model is measured on it.

    Attributes:
        suite: what it is.
        task: knows which outputs of the model the set's labels mean.
        data: of each part of the set.
    """

    suite: Suite
    task: Classification
    data: Mapping[str, EvalData]


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation needs.

    Attributes:
        sets: at least one, in the order asked for.
        not_found: names of sets that suite=all did not find.
        notes: one sentence for each thing a user should know of.
    """

    sets: Sequence[MeasuredSet]
    not_found: Sequence[str]
    model: nn.Module
    weights: Weights
    notes: list[str]

    def identity(self) -> list[object]:
        """What makes it this evaluation: which images of which sets, and the weights' step and name."""
        parts = [
            (one.suite.name, name, samples_of(source), source.fingerprint)
            for one in self.sets
            for name, source in one.suite.parts.items()
        ]
        return [self.weights.step, self.weights.name, *parts]


def build_evaluation(config: ClassificationEval, *, world: World) -> Evaluation:
    """Model with its weights, and the held-out images.

    Raises:
        UserError: the checkpoint is damaged, for another model, or for other classes than the data's.
    """
    assert config.checkpoint is not None
    weights = find_weights(Path(config.checkpoint), config.weights)
    # a larger head's classes are not those of the images
    names = weights.classes or None if config.init_map is None else None
    suites, not_found = build_suites(config, names)
    chosen = head_rows(Path(config.init_map)) if config.init_map is not None else None
    task, model = _model_for(config, weights, suites, chosen)
    notes = [*weights.notes, *load(model, weights, rows=chosen)]
    measured(model, config.model.name, config.data.image_size)
    notes += filter_notes(model, config.data.image_size)
    settings = LoaderSettings(world.device, config.data.workers, config.data.prefetch)
    sets = []
    for suite in suites:
        rows = suite.rows if len(suite.classes) != task.model.num_classes else None
        notes += [*suite.notes, *_renamed(weights.classes, suite, chosen, rows)]
        data = {name: eval_data(source, config.data, settings) for name, source in suite.parts.items()}
        on_device = rows.to(world.device) if rows is not None else None
        sets.append(MeasuredSet(suite, replace(task, rows=on_device), data))
    model = model.to(world.device)
    if config.fuse:
        fuse(model, config.data.image_size)
    return Evaluation(sets, not_found, model, weights, list(dict.fromkeys(notes)))


def run_evaluation(
    job: Evaluation,
    config: ClassificationEval,
    *,
    world: World,
    done: Callable[[str, dict[str, float]], None],
) -> list[dict[str, dict[str, float]]]:
    """The metrics of each part of each set; `done` hears of each part as it ends, on every rank."""
    results = []
    for one in job.sets:
        parts = {}
        for name, data in one.data.items():
            batches = data.batches(world.rank, world.size, config.batch_size)
            counts = world.gather(data.batch_count(world.rank, world.size, config.batch_size))
            if max(counts) - min(counts) > 1:  # who is done long before the others would wait for too long
                batches = with_collective(batches, max(counts), world.barrier)
            of_models = evaluate(
                one.task, {"it": job.model}, batches, world=world, precision=config.precision
            )
            parts[name] = of_models["it"]
            done(f"{one.suite.name}/{name}" if name else one.suite.name, parts[name])
        results.append(parts)
    return results


def _model_for(
    config: ClassificationEval, weights: Weights, suites: Sequence[Suite], chosen: Tensor | None
) -> tuple[Classification, nn.Module]:
    """The model, with as many outputs as the weights tell classes apart, and its task.

    A set of some of ImageNet's classes is for a head of all 1,000, or of just its own.

    Raises:
        DataError: the head is for neither.
    """
    first = suites[0]
    width = len(imagenet_wnids()) if first.rows is not None else len(first.classes)
    task = build_task(config.model, config.data, width)
    model = task.build_model()
    head = weights.tensors.get(f"{classifier_name(model)}.weight")
    told = len(chosen) if chosen is not None else head.shape[0] if head is not None and head.ndim else width
    if told == width:
        return task, model
    if first.rows is not None and told == len(first.classes):
        if others := [suite.name for suite in suites if suite.classes != first.classes]:
            raise DataError(
                f"{weights.place} tells the {told} classes of {first.name} apart, not those of "
                f"{', '.join(others)}: suite=[{first.name}]"
            )
        task = build_task(config.model, config.data, told)
        return task, task.build_model()
    if chosen is not None:
        return task, model  # loading tells what is wrong with the map
    raise DataError(
        f"{weights.place} tells {told} classes apart, the images of data.source={first.name} are of "
        f"{width}: if the former include the latter, init_map=<file> says which rows of the head these are"
    )


def _renamed(names: Sequence[str], suite: Suite, chosen: Tensor | None, rows: Tensor | None) -> list[str]:
    """A sentence where the classes are called otherwise than in training."""
    for picked in (chosen, rows):
        if picked is not None and names:
            names = [names[row] for row in picked.tolist()]
    pairs = [(then, now) for then, now in zip(names, suite.classes, strict=False) if then != now]
    if not pairs:
        return []
    then, now = pairs[0]
    return [
        f"{len(pairs)} classes are called otherwise than in training (the first is {then!r} "
        f"there, {now!r} here): labels go by their order"
    ]
