"""A prediction from its config to its output, whatever the task."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from hornet_train.config.schema import EvalConfig
from hornet_train.data.sources.listing import with_count
from hornet_train.engine.distributed import World
from hornet_train.errors import ConfigError, DataError
from hornet_train.file_names import as_text
from hornet_train.prediction.answer_formats import format_of_answers
from hornet_train.prediction.answer_loop import Answered, AnswerSettings, answer_pictures
from hornet_train.prediction.answer_output import opened_output
from hornet_train.prediction.drawn_answers import AnswerPictures, stacked_for_sheet
from hornet_train.prediction.feature_file import opened_features
from hornet_train.prediction.picture_list import PictureList
from hornet_train.prediction.wanted import Prediction
from hornet_train.run.open_predictor import open_predictor
from hornet_train.tasks.kit import Kit
from hornet_train.tasks.predictor_types import Predictor
from hornet_train.track.progress import Progress

_FEW_BATCHES = 2  # of a process: fewer pictures are read in this process itself, which starts sooner
_log = logging.getLogger("hornet_train")


def run_prediction(
    kit: Kit[Any, Any],
    config: EvalConfig,
    pictures: PictureList,
    wanted: Prediction,
    *,
    world: World,
    notes: Sequence[str] = (),
    quiet: bool = False,
) -> Answered:
    """Ask the model of a checkpoint about pictures, and write what it says. Every process together.

    Args:
        notes: what is known of the config.
        quiet: print no progress.

    Raises:
        UserError: the checkpoint is at fault, a file cannot be written, or no picture can be read.
    """
    predictor = world.on_all_ranks(lambda: _opened(kit, config, wanted, world, notes))
    if not world.same_on_all_ranks(pictures.fingerprint):
        raise DataError("the processes see other pictures than each other: folders must be the same for all")
    if world.is_main and not quiet:
        for note in (*pictures.notes, *predictor.notes):
            _log.info("%s", note)
    draw = world.on_all_ranks(
        lambda: AnswerPictures(wanted.drawn, pictures, predictor.samples, predictor.answers)
    )
    longest = max(len(as_text(pictures.locate(index))) for index in range(len(pictures)))
    form = format_of_answers(wanted.format, predictor.answers, predictor.classes, longest)
    few = len(pictures) <= _FEW_BATCHES * config.batch_size * world.size
    settings = AnswerSettings(
        config.batch_size, config.precision, 0 if few else config.data.workers, config.data.prefetch
    )
    begin = time.perf_counter()
    shows = world.is_main and not quiet and len(pictures) > 1
    bar = Progress("predict", len(pictures), "pictures") if shows else None
    kept = wanted.features if world.is_main else None
    with (
        opened_output(wanted.out if world.is_main else None) as output,
        nullcontext() if kept is None else opened_features(kept, len(pictures)) as features,
        bar or nullcontext(),
    ):
        found = answer_pictures(
            predictor,
            pictures,
            settings,
            form,
            draw,
            output=output,
            features=features,
            world=world,
            progress=bar.update if bar is not None else lambda _: None,
        )
    if world.is_main:
        _say(found, wanted, time.perf_counter() - begin, quiet=quiet)
    if not found.count:
        raise DataError(f"none of {with_count(len(pictures), 'picture')} could be read")
    return found


def _opened(
    kit: Kit[Any, Any], config: EvalConfig, wanted: Prediction, world: World, notes: Sequence[str]
) -> Predictor:
    looks = wanted.drawn.heatmaps is not None
    if looks:
        config = replace(config, fuse=False)
    predictor = open_predictor(kit, config, world.device, wanted.asked, notes)
    answers = predictor.answers
    if looks:
        answers = answers.with_heat(wanted.drawn.heatmap_method)
    if wanted.features is not None:
        answers = answers.with_features()
    return replace(predictor, answers=answers)


def _say(found: Answered, wanted: Prediction, seconds: float, *, quiet: bool) -> None:
    """The end of a prediction in a line; what could not be read is said even if nothing else is."""
    total = found.count + found.bad
    speed = f", {total / seconds:.1f} a second" if total > 1 else ""
    where = "" if wanted.out is None else f", written to {wanted.out}"
    if not quiet and (speed or where):
        _log.info("%s%s%s", with_count(found.count, "picture"), speed, where)
    if found.bad:
        _log.warning("%s could not be read", with_count(found.bad, "picture"))


def save_sheet(
    found: Answered, path: Path, pictures: int, draw: Callable[[Tensor, Sequence[str], Path, str], None]
) -> None:
    """Write the contact sheet of the first pictures.

    Args:
        pictures: how many there are in all.
        draw: draws pictures, uint8 (B, 3, side, side), with their captions into a file, under a title.

    Raises:
        ConfigError: it cannot be written.
    """
    shown, captions = zip(*found.shown, strict=True)
    most = f" of {pictures:,}" if pictures > len(shown) else ""
    try:
        draw(stacked_for_sheet(shown), captions, path, f"{with_count(len(shown), 'picture')}{most}")
    except OSError as error:
        raise ConfigError([f"--sheet={path} cannot be written ({error.strerror})"]) from error
    _log.info("%s shows %s%s", path, with_count(len(shown), "picture"), most)
