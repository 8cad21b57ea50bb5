"""From pictures to answers: batches through a model, on every process of a group, written in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

import torch

from hornet_train.data.batch import stacked, tensors
from hornet_train.data.loader import EvalLoader, Loaded, LoaderSettings
from hornet_train.data.sources.listing import with_count
from hornet_train.engine.distributed import World
from hornet_train.engine.out_of_memory import is_out_of_memory
from hornet_train.engine.precision import PrecisionName, autocast
from hornet_train.errors import OutOfMemory
from hornet_train.images.layout import Pixels
from hornet_train.prediction.answer_formats import AnswerFormat
from hornet_train.prediction.answer_output import TextOutput
from hornet_train.prediction.drawn_answers import AnswerPictures
from hornet_train.prediction.feature_file import FeatureFile, Vector
from hornet_train.prediction.picture_list import PictureList
from hornet_train.tasks.predictor_types import Answer, Predictor


@dataclass(frozen=True)
class AnswerSettings:
    """How pictures go through the model.

    Attributes:
        batch_size: pictures that a process forwards at once.
        workers, prefetch: see `LoaderSettings`.
    """

    batch_size: int
    precision: PrecisionName
    workers: int
    prefetch: int


@dataclass
class Answered:
    """What was done, the same on every process.

    Attributes:
        count: pictures that were answered.
        bad: how many could not be read.
        shown: of the pictures for a contact sheet, in order, what is drawn and what is said.
    """

    count: int = 0
    bad: int = 0
    shown: list[tuple[Pixels, str]] = field(default_factory=list)


class _Entry(NamedTuple):
    number: int
    fault: str  # why it could not be read; empty where it was
    text: Any  # as the format has it
    shown: tuple[Pixels, str] | None
    features: Vector | None = None


def answer_pictures(
    predictor: Predictor,
    pictures: PictureList,
    settings: AnswerSettings,
    form: AnswerFormat,
    draw: AnswerPictures,
    *,
    output: TextOutput,
    features: FeatureFile | None = None,
    world: World,
    progress: Callable[[int], None],
) -> Answered:
    """Ask the model about every picture, once on whatever number of processes.

    A picture that cannot be read is written as such and counted. Each process has every so-manyth picture, so
    that what all have after a batch is the next stretch of the list.

    Args:
        form: of the text that goes to `output`, on the main process.
        draw: is given every answer, on the process that has it.
        features: gets the vector of every picture, on the main process; the answers must have them.
        progress: is told how many pictures are done, on the main process.

    Raises:
        UserError: a batch does not fit into memory, or a picture cannot be written.
    """
    found, done = Answered(), 0
    if world.is_main:
        output.write(form.begin())
    mine = _entries(predictor, pictures, settings, form, draw, world)
    share = -(-len(pictures) // world.size)  # of the main process, which has the most
    for _ in range(-(-share // settings.batch_size)):
        entries = world.on_all_ranks(lambda: next(mine, []))
        for entry in sorted(chain(*world.gather(entries)), key=lambda entry: entry.number):
            found.count += not entry.fault
            found.bad += bool(entry.fault)
            found.shown += [] if entry.shown is None else [entry.shown]
            done += 1
            if world.is_main:
                output.write(form.text(entry.text))
                if features is not None:
                    features.add(pictures.locate(entry.number), entry.features, entry.fault)
        if world.is_main:
            progress(done)
    if world.is_main:
        output.write(form.end())
    return found


def _entries(
    predictor: Predictor,
    pictures: PictureList,
    settings: AnswerSettings,
    form: AnswerFormat,
    draw: AnswerPictures,
    world: World,
) -> Iterator[list[_Entry]]:
    """This process's share, a list for each batch."""
    loader = LoaderSettings(world.device, settings.workers, settings.prefetch)
    data = EvalLoader(pictures, predictor.samples, loader, on_bad="skip")
    for loaded in data.batches(world.rank, world.size, settings.batch_size):
        entries = [
            _Entry(bad.index, bad.reason, form.entry(pictures.locate(bad.index), None, bad.reason), None)
            for bad in loaded.bad
        ]
        indices = stacked(loaded.batch, "index").tolist() if loaded.batch else []
        for index, answer in zip(indices, _asked(predictor, loaded, settings, pictures), strict=True):
            where = pictures.locate(index)
            drawn = draw(index, answer)
            shown = None if drawn is None else (drawn, predictor.answers.line(answer))
            vector = answer["features"].numpy() if "features" in answer else None
            entries.append(_Entry(index, "", form.entry(where, answer, ""), shown, vector))
        yield entries


def _asked(
    predictor: Predictor, loaded: Loaded, settings: AnswerSettings, pictures: PictureList
) -> list[Answer]:
    """What the model says of a batch.

    Raises:
        OutOfMemory: it does not fit.
    """
    if not loaded.batch:
        return []
    device = next(tensors(loaded.batch)).device
    try:
        with torch.inference_mode(), autocast(settings.precision, device):
            return predictor.answers(predictor.model, loaded.batch)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        names = [pictures.locate(index) for index in stacked(loaded.batch, "index").tolist()]
        raise OutOfMemory(
            f"{with_count(len(names), 'picture')} from {names[0]} on do not fit into memory at once: "
            f"batch_size={max(1, len(names) // 2)} takes less"
            if len(names) > 1
            else f"{names[0]} does not fit into memory: scale it down"
        ) from error
