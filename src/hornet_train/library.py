"""What the commands do, as calls: `hornet_train.train`, `evaluate`, `load`, `info`.

They take the overrides of the command line, raise the errors of `hornet_train.errors` and give plain results.
One may be called after the other in one process.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hornet_train._timm import import_timm
from hornet_train.errors import ConfigError

if TYPE_CHECKING:
    from hornet_train.config.compose import Composed
    from hornet_train.config.schema import Config
    from hornet_train.export.export_checkpoint import Exported
    from hornet_train.export.export_wanted import Export
    from hornet_train.prediction.answer_loop import Answered
    from hornet_train.prediction.picture_list import PictureList
    from hornet_train.prediction.wanted import Prediction
    from hornet_train.report.model_info import ModelInfo
    from hornet_train.run.load_model import LoadedModel
    from hornet_train.run.training import TrainResult
    from hornet_train.serving.service_wanted import Service
    from hornet_train.tasks.asked import Asked
    from hornet_train.tasks.kit_types import Table


def train(overrides: Sequence[str] = (), *, quiet: bool = False) -> TrainResult:
    """Train as `hornet-train <overrides>` does, on every process that torchrun started.

    A run that was stopped goes on where it stands when the same overrides are given again.

    Args:
        overrides: such as `["model=hornet_t_gf", "data=folder", "data.root=photos"]`.
        quiet: print nothing but warnings.

    Returns:
        The run folder, the best evaluation and the newest ones.

    Raises:
        UserError: the overrides, the data or a checkpoint are at fault, or the training diverges.
        Preempted: asked to stop (SIGTERM, Ctrl-C, `checkpoint.max_minutes`); it has saved, unless its `saved`
            is False.
    """
    from hornet_train.config.compose_train import compose_train
    from hornet_train.engine.launched import launched_world_size, may_restart
    from hornet_train.tasks.table import NAMES, find, kit_of

    given, size = _listed(overrides), launched_world_size()

    def compose(more: list[str]) -> Composed[Config]:
        return compose_train([*given, *more], find=find, names=NAMES, world_size=size)

    composed = compose([])
    config = composed.config
    if config.run_dir is None and may_restart():
        raise ConfigError(
            ["run_dir is missing: with torchrun --max-restarts a run must find its folder again: run_dir=..."]
        )
    assert composed.task is not None
    import_timm()  # which takes seconds, and so comes after the mistakes that the config shows
    from hornet_train.engine.preemption import Stop
    from hornet_train.report.curves import CurvesSink
    from hornet_train.run.follow_model import follow_model
    from hornet_train.run.process import joined
    from hornet_train.run.training import run_training
    from hornet_train.track.console import console_for

    stop = Stop(config.checkpoint.max_minutes)
    with stop.listening(), joined(config.dist, deterministic=config.deterministic) as world:
        kit = kit_of(composed.task)
        return run_training(
            kit,
            follow_model(kit, composed, compose),
            world=world,
            stop=stop,
            make_console=lambda kit, run: console_for(
                run.trainer.total_steps,
                run.trainer.plan.steps_per_epoch,
                shift=run.trainer.state.calendar.shift,
                metrics=kit.metrics,
                prints=world.is_main,
                quiet=quiet,
            ),
            more_sinks=[CurvesSink],
        )


def _listed(overrides: Sequence[str]) -> list[str]:
    """The overrides as a list.

    Raises:
        ConfigError: they are one text, a sequence of letters, or ask for what only a command does.
    """
    if isinstance(overrides, str):
        raise ConfigError([f"overrides are a list of texts, [{overrides!r}], not one text"])
    if any(one.startswith("replay=") for one in overrides):
        raise ConfigError(["replay= is for the command: hornet-train replay=FILE"])
    return list(overrides)


@dataclass(frozen=True)
class EvalResult:
    """What an evaluation found.

    Attributes:
        values: what eval.json holds of it: the metrics, `count`, `checkpoint`, `weights`, ...
        out: that file.
        tables: the same for people.
    """

    values: dict[str, Any]
    out: Path
    tables: list[Table]


def evaluate(overrides: Sequence[str], *, quiet: bool = False) -> EvalResult:
    """Evaluate as `hornet-eval <overrides>` does, and write eval.json as it does (`out=`).

    Args:
        overrides: such as `["checkpoint=runs/photos"]`.
        quiet: print nothing but warnings.

    Raises:
        UserError: the overrides, the data or the checkpoint are at fault.
    """
    from hornet_train.run.compose_checkpoint import compose_checkpoint

    kit, composed = compose_checkpoint(_listed(overrides))
    from hornet_train.run.evaluate_checkpoint import run_evaluation
    from hornet_train.run.process import joined
    from hornet_train.run.result_file import check_out, write_result
    from hornet_train.track.console import console_for

    config, out = composed.config, check_out(composed.config)
    with joined(config.dist) as world:
        console = console_for(1, 1, metrics=kit.metrics, prints=world.is_main, quiet=quiet)
        for note in composed.notes:
            console.say(note)
        values = run_evaluation(kit, config, world=world, console=console)
        tables = kit.result_tables(values)
        if world.is_main:
            for table in tables:
                console.table(table.title, table.columns, table.rows)
            if values.get("not_found"):
                console.say(f"not found: {', '.join(values['not_found'])}")
            others = write_result(values, out)
            console.say(
                f"written to {out}" + f", beside {others} other result{'s' * (others > 1)}" * bool(others)
            )
    return EvalResult(values, out, tables)


def predict(
    overrides: Sequence[str],
    pictures: Sequence[str | os.PathLike[str]],
    wanted: Prediction | None = None,
    *,
    quiet: bool = False,
) -> Answered:
    """Answer for pictures as `hornet-predict <overrides> <pictures>` does, and write what is wanted.

    For answers as values there is `load(checkpoint).predict(pictures)`.

    Args:
        overrides: such as `["checkpoint=runs/photos"]`.
        pictures: files, folders, patterns, lists of paths; `-` for standard input.
        wanted: the formats and files; None for a table on standard output.
        quiet: print answers and warnings alone.

    Raises:
        UserError: the overrides, the pictures or the checkpoint are at fault, or a file cannot be written.
    """
    from hornet_train.prediction.wanted import Prediction
    from hornet_train.run.compose_checkpoint import compose_checkpoint

    job = Prediction() if wanted is None else wanted
    job.check_files()
    kit, composed = compose_checkpoint(_listed(overrides), opens_data=False)
    from hornet_train.prediction.picture_list import find_pictures
    from hornet_train.prediction.predict_files import run_prediction, save_sheet
    from hornet_train.report.contact_sheet import draw_sheet
    from hornet_train.run.process import joined

    found = find_pictures([os.fspath(one) for one in pictures], sys.stdin.buffer.read)
    with joined(composed.config.dist) as world:
        answered = run_prediction(
            kit, composed.config, found, job, world=world, notes=composed.notes, quiet=quiet
        )
        if world.is_main and job.drawn.sheet is not None:
            save_sheet(answered, job.drawn.sheet, len(found), draw_sheet)
    return answered


def serve(overrides: Sequence[str], service: Service | None = None, *, quiet: bool = False) -> None:
    """Answer for pictures over HTTP as `hornet-predict <overrides> --serve` does, until SIGINT or SIGTERM.

    Args:
        overrides: such as `["checkpoint=runs/photos"]`.
        service: the address and the limits; None: on localhost.
        quiet: print warnings alone.

    Raises:
        UserError: the overrides or the checkpoint are at fault, the address is taken, a package is missing.
    """
    from hornet_train.run.compose_checkpoint import compose_checkpoint
    from hornet_train.serving.service_wanted import Service

    wanted = Service() if service is None else service
    wanted.check()
    kit, composed = compose_checkpoint(_listed(overrides), opens_data=False)
    from hornet_train.serving.serve_pictures import run_service

    run_service(kit, composed.config, wanted, composed.notes, quiet=quiet)


def export_model(
    overrides: Sequence[str],
    wanted: Export,
    pictures: Sequence[str | os.PathLike[str]] = (),
    calibration: Sequence[str | os.PathLike[str]] = (),
) -> Exported:
    """Write a model for other programs as `hornet-export <overrides> <pictures>` does.

    Args:
        overrides: such as `["checkpoint=runs/photos"]`.
        wanted: the format and the file.
        pictures: on which the export is compared with the model: files, folders, patterns, lists of paths;
            none: on noise.
        calibration: pictures likewise, for integers of 8 bits.

    Raises:
        UserError: the overrides, the pictures or the checkpoint are at fault, the model cannot be exported
            so, a package is missing, or the file cannot be written.
    """
    from hornet_train.run.compose_checkpoint import compose_checkpoint

    wanted.check(calibrated=bool(calibration))
    kit, composed = compose_checkpoint(_listed(overrides), opens_data=False)
    from hornet_train.export.export_checkpoint import run_export
    from hornet_train.prediction.picture_list import find_pictures

    def found(given: Sequence[str | os.PathLike[str]]) -> PictureList | None:
        paths = [os.fspath(one) for one in given]
        return find_pictures(paths, sys.stdin.buffer.read) if paths else None

    return run_export(kit, composed.config, wanted, found(pictures), found(calibration), notes=composed.notes)


def load(
    checkpoint: str | os.PathLike[str], overrides: Sequence[str] = (), *, asked: Asked | None = None
) -> LoadedModel:
    """The model of a checkpoint, to ask it about pictures: `load("runs/photos").predict("cat.jpg")`.

    Args:
        checkpoint: a run folder, whose best weights are taken, a step folder, a safetensors file or an
            official .pth.
        overrides: as for `hornet-eval`, such as `["weights=model", "precision=fp32"]`. For weights that do
            not say what they were trained on, `data=imagenet` names the preprocessing. No data are opened.
        asked: of every answer, such as `Asked(top=1, flip=True)`; None for the task's defaults.

    Raises:
        UserError: the overrides or the checkpoint are at fault, or its task does not predict.
    """
    from hornet_train.run.compose_checkpoint import compose_checkpoint

    given = [f"checkpoint={os.fspath(checkpoint)}", *_listed(overrides)]
    kit, composed = compose_checkpoint(given, opens_data=False)
    from hornet_train.run.load_model import load_model

    return load_model(kit, composed.config, composed.notes, asked)


def info(overrides: Sequence[str] = ()) -> ModelInfo:
    """What `hornet-info <overrides>` says of a model. Nothing is computed, and no memory taken for weights.

    Args:
        overrides: such as `["model=hornet_s_gf", "image_size=384"]`.

    Raises:
        UserError: there is no such model, or it does not take images of that size.
    """
    from hornet_train.config.compose_info import compose_info
    from hornet_train.tasks.table import NAMES, find, kit_of

    composed = compose_info(_listed(overrides), find=find, names=NAMES)
    import_timm()
    assert composed.task is not None
    from hornet_train.report.model_info import info_of

    return info_of(kit_of(composed.task), composed.config, composed.given)
