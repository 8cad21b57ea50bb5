"""A checkpoint of a classifier, and the sets that it is evaluated on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from hornet_train.data.sources.kept_files import place_of_list
from hornet_train.errors import DataError
from hornet_train.tasks.classification.build.channels import channel_notes
from hornet_train.tasks.classification.build.components import build_task, eval_transform, outputs_of
from hornet_train.tasks.classification.build.open_sets import open_sets
from hornet_train.tasks.classification.head import load_classifier, read_class_map
from hornet_train.tasks.classification.samples import EvalSamples
from hornet_train.tasks.classification.schema import ClassificationEval
from hornet_train.tasks.classification.sources import imagenet_wnids
from hornet_train.tasks.classification.suites import Suite
from hornet_train.tasks.classification.task import Classification
from hornet_train.tasks.kit_types import Evaluation, EvaluationSet, Weights
from hornet_train.tasks.model_check import check_image_size, filter_notes


def open_evaluation(config: ClassificationEval, weights: Weights, device: torch.device) -> Evaluation:
    """The model with its weights, and the held-out images of each set.

    Raises:
        UserError: the checkpoint is for another model, or for other classes than the data's.
    """
    outputs = outputs_of(config, weights)  # before the data are opened: a wrong model is found at once
    chosen = read_class_map(Path(config.init_map)) if config.init_map is not None else None
    suites, not_found = open_sets(config, _names(weights, chosen), _lists(weights.place))
    task, model = _model_for(config, weights, outputs, suites, chosen)
    notes = load_classifier(model, weights, rows=chosen)
    size = config.data.image_size
    check_image_size(model, config.model.name, size, in_chans=config.model.in_chans)
    notes += [*filter_notes(model, size), *channel_notes(config)]
    samples, sets = EvalSamples(eval_transform(config.data), exif=config.data.exif), []
    absent = sum(suite.absent for suite in suites)
    for suite in suites:
        rows = suite.rows if len(suite.classes) != task.model.num_classes else None
        notes += [*suite.notes, *_renamed(_names(weights, chosen), suite, rows)]
        of_set = replace(task, rows=rows.to(device) if rows is not None else None)
        sets.append(EvaluationSet(suite.name, of_set, suite.parts, samples, suite.left_out))
    return Evaluation(
        model,
        sets,
        several=config.suite is not None,
        not_found=not_found,
        notes=notes,
        image_size=size,
        facts={"image_size": size, **({"absent_classes": absent} if absent else {})},
    )


def _names(weights: Weights, chosen: Tensor | None) -> tuple[str, ...]:
    """The names of the model's classes; none where the weights do not carry them, or a map does not fit."""
    if chosen is None:
        return weights.classes
    rows = chosen.tolist()
    fits = bool(rows) and 0 <= min(rows) <= max(rows) < len(weights.classes)
    return tuple(weights.classes[row] for row in rows) if fits else ()


def _model_for(
    config: ClassificationEval,
    weights: Weights,
    outputs: int | None,
    suites: Sequence[Suite],
    chosen: Tensor | None,
) -> tuple[Classification, nn.Module]:
    """The model, with as many outputs as the weights have classes, and its task.

    A set of some of ImageNet's classes is for a head of all 1,000, or of just its own.

    Raises:
        DataError: the head is for neither.
    """
    first = suites[0]
    width = len(imagenet_wnids()) if first.rows is not None else len(first.classes)
    task = build_task(config, width)
    model = task.build_model()
    outputs = outputs or width
    if chosen is not None:
        outputs = len(chosen)
    if outputs == width:
        return task, model
    if first.rows is not None and outputs == len(first.classes):
        if others := [suite.name for suite in suites if suite.classes != first.classes]:
            raise DataError(
                f"{weights.place} has the {outputs} classes of {first.name}, not those of "
                f"{', '.join(others)}: suite=[{first.name}]"
            )
        task = build_task(config, outputs)
        return task, task.build_model()
    if chosen is not None:
        return task, model  # loading says what is wrong with the map
    raise DataError(
        f"{weights.place} has {outputs} classes, the images of data.source={first.name} are of "
        f"{width}: if these are among the former, init_map=<file> says which rows of the head to take"
    )


def _renamed(names: Sequence[str], suite: Suite, rows: Tensor | None) -> list[str]:
    """A sentence where the classes of a published set are called otherwise than in training."""
    if rows is not None and names:
        names = [names[row] for row in rows.tolist()]
    pairs = [(then, now) for then, now in zip(names, suite.classes, strict=False) if then != now]
    if not pairs:
        return []
    then, now = pairs[0]
    return [
        f"{len(pairs)} classes are called otherwise than in training (the first is {then!r} "
        f"there, {now!r} here): labels go by their order"
    ]


def _lists(place: Path) -> dict[str, Path]:
    """The lists of files of the run whose step folder, or a file in one, this is."""
    found = {}
    for folder in place.parents[1:3]:
        if (one := place_of_list(folder, "train")).exists():
            found["train"] = one
    return found
