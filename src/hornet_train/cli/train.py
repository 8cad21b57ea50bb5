"""`hornet-train`: compose, build, fit. Heavy imports wait until there is something to train."""

from __future__ import annotations

import logging
import shlex
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

from hornet_train.cli.command import Stopped, joined, run_command
from hornet_train.cli.help import answer_questions
from hornet_train.cli.replay import KEY, run_replay
from hornet_train.cli.sweep import FLAGS
from hornet_train.cli.sweep import main as run_sweep
from hornet_train.config.compose import Composed
from hornet_train.config.compose_train import compose_train
from hornet_train.config.schema import Config
from hornet_train.errors import ConfigError
from hornet_train.redaction import redacted_tree
from hornet_train.tasks.classification.schema import ClassificationConfig
from hornet_train.tasks.table import NAMES, find

if TYPE_CHECKING:
    from hornet_train.engine.distributed import World
    from hornet_train.engine.preemption import Stop
    from hornet_train.run.build import Run
    from hornet_train.track.console import Console
    from hornet_train.track.sinks import Sink


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if set(FLAGS) & set(arguments):
        run_sweep(arguments)
    hint = "; the same command with the same run_dir goes on from the last checkpoint"
    run_command(_train, answer_questions, arguments, after_interrupt=hint)


def _train(overrides: list[str]) -> None:
    from hornet_train.engine.distributed import launched_world_size, may_restart
    from hornet_train.engine.preemption import Preempted, Stop

    if any(text.startswith(KEY) for text in overrides):
        run_replay(overrides)
        return
    composed = compose_train(overrides, find=find, names=NAMES, world_size=launched_world_size())
    if composed.config.run_dir is None and may_restart():
        raise ConfigError(
            ["run_dir is missing: with torchrun --max-restarts a run must find its folder again: run_dir=..."]
        )
    stop = Stop(composed.config.checkpoint.max_minutes)
    try:
        with stop.listening():
            _run(composed, stop)
    except Preempted as asked:
        raise Stopped(
            f"stopped by {asked.reason}: "
            + ("saved; " if asked.saved else "nothing was trained yet; ")
            + "the same command with the same run_dir goes on"
        ) from None


def _run(composed: Composed[Config], stop: Stop) -> None:
    from hornet_train.run.build import build_run
    from hornet_train.run.folder import (
        check_run_folder,
        claim_run_folder,
        clean_run_folder,
        default_run_dir,
        hold_run_folder,
    )
    from hornet_train.run.repeat import compared
    from hornet_train.track.console import ConsoleHandler, ConsoleSink, NullConsole, other_ranks_handler

    config = composed.config
    assert isinstance(config, ClassificationConfig)
    with joined(config.dist, deterministic=config.deterministic) as world:
        folder = world.broadcast(Path(config.run_dir or default_run_dir(composed)))
        tree = redacted_tree({**composed.tree, "run_dir": str(folder)})  # what is kept, and shown by W&B
        world.on_main(lambda: check_run_folder(folder, tree, config.resume, type(config)))
        run = build_run(config, tree, world=world, folder=folder)
        run.trainer.stop = stop
        warnings: list[str] = []
        if (repeats := composed.repeats) is not None:
            images = run.images
            warnings = world.on_main(lambda: compared(repeats, images, world=world))
            run.notes.insert(0, f"repeating {repeats.file}")
        note = world.on_main(lambda: claim_run_folder(folder, tree, config.resume, type(config)))
        held: list[IO[str]] = []
        world.on_main(lambda: held.append(hold_run_folder(folder)))
        console: Console = NullConsole()
        handler = other_ranks_handler(world.rank)
        if world.is_main:
            clean_run_folder(folder)
            console = ConsoleSink(run.trainer.settings.total_steps, run.trainer.plan.steps_per_epoch)
            handler = ConsoleHandler(console)
        logging.getLogger("hornet_train").addHandler(handler)
        try:
            for text in warnings:
                console.warn(text)
            _fit(config, tree, run, world=world, folder=folder, console=console, note=note)
        finally:
            logging.getLogger("hornet_train").removeHandler(handler)
            for lock in held:
                lock.close()


def _fit(
    config: Config,
    tree: Mapping[str, Any],
    run: Run,
    *,
    world: World,
    folder: Path,
    console: Console,
    note: str | None,
) -> None:
    """Say what starts, train, say what came of it."""
    for text in ([note] if note else []) + run.notes:
        console.warn(text) if text.startswith("checkpoint skipped") else console.say(text)
    trainer, begin = run.trainer, time.monotonic()
    step, total = trainer.state.step, trainer.settings.total_steps
    if step > total:
        console.say(f"{folder}: this run is at step {step:,}, past the {total:,} that are asked for")
    elif step == total and not trainer.evaluation_due:
        console.say(f"{folder}: this run is complete at step {step:,}; resume=restart trains anew")
    else:
        console.start_panel(run.facts, "hornet-train")
        with ExitStack() as stack:
            trainer.advance = console.advance
            world.on_main(lambda: _open_sinks(config, tree, run, world, folder, console, stack))
            if run.resumed_from is not None:
                trainer.emit("resumed")
            trainer.fit()
    minutes = (time.monotonic() - begin) / 60
    best = trainer.state.best
    if best is not None:
        console.say(
            f"best {best.metric}: {best.value:.2f} ({best.weights} weights, step {best.step:,}); "
            f"{minutes:.1f} minutes"
        )
    console.say(f"results: {folder}/metrics.jsonl, {folder}/curves.png, {folder}/checkpoints")
    if trainer.eval_data is not None:
        console.say(f"evaluate: hornet-eval {shlex.quote(f'checkpoint={folder}')}")


def _open_sinks(
    config: Config,
    tree: Mapping[str, Any],
    run: Run,
    world: World,
    folder: Path,
    console: Console,
    stack: ExitStack,
) -> None:
    """Have rank 0's events go to the run folder and elsewhere, until the end.

    Raises:
        ConfigError: the folder cannot be written.
    """
    from hornet_train.report.curves import CurvesSink
    from hornet_train.run.folder import open_run_folder
    from hornet_train.track.sinks import JsonlSink, TensorBoardSink

    log, step = config.log, run.resumed_from
    again = frozenset({"rollback", *(["eval"] if run.trainer.evaluation_due else [])})
    rollbacks = run.trainer.state.fault_history.rollbacks
    open_run_folder(folder, tree, world=world, step=step or 0, again=again, rollbacks=rollbacks)
    try:
        sinks: list[Sink] = [JsonlSink(folder / "metrics.jsonl"), console, CurvesSink(folder)]
        if log.tensorboard:
            sinks.append(TensorBoardSink(folder / "tensorboard", resume_step=step))
    except OSError as error:
        raise ConfigError([f"{error.filename or folder} cannot be written ({error.strerror})"]) from error
    if log.wandb:
        from hornet_train.track.wandb_sink import WandbSink

        wandb = WandbSink(folder, tree, log.wandb_project, log.wandb_name, log.wandb_entity)
        if wandb.where:
            console.say(f"Weights & Biases: {wandb.where}")
        sinks.append(wandb)
    for sink in reversed(sinks):  # the curves last, from a whole metrics.jsonl
        stack.callback(sink.close)
    run.trainer.sinks = sinks


if __name__ == "__main__":
    main()
