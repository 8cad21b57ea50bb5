"""A training from its composed config to its result, step by step."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from hornet_train.config.compose import Composed
from hornet_train.config.schema import Config
from hornet_train.engine.distributed import World
from hornet_train.engine.preemption import Stop
from hornet_train.engine.state import Best
from hornet_train.errors import Preempted
from hornet_train.file_names import shell_join
from hornet_train.redaction import redacted_tree
from hornet_train.run.build import Run, build_run
from hornet_train.run.compare_runs import compared
from hornet_train.run.folder import check_run_folder, default_run_dir, held_folder, occupied
from hornet_train.run.follow_data import follow_data
from hornet_train.run.open_sinks import MakeSink, open_sinks
from hornet_train.run.other_work import Usage, too_many_threads, usage
from hornet_train.tasks.kit import Kit
from hornet_train.tasks.kit_types import Datasets
from hornet_train.tasks.table import NAMES
from hornet_train.track.console import Console, ConsoleHandler, other_ranks_handler
from hornet_train.track.sinks import read_events

MakeConsole = Callable[[Kit[Any, Any], Run], Console]


@dataclass(frozen=True)
class TrainResult:
    """What a training came to.

    Attributes:
        run_dir: the run folder.
        step: at which the run stands; total_steps: at which it is complete.
        best: the best evaluation, whose checkpoint `checkpoints/best` names; None without evaluations.
        metrics: weights ("model", "ema") -> what their newest evaluation found.
        direction: "max" or "min", whichever of the headline metric is better.
    """

    run_dir: Path
    step: int
    total_steps: int
    best: Best | None
    metrics: dict[str, dict[str, float]]
    direction: Literal["max", "min"]


def run_training(
    kit: Kit[Any, Any],
    composed: Composed[Config],
    *,
    world: World,
    stop: Stop,
    make_console: MakeConsole,
    more_sinks: Sequence[MakeSink] = (),
) -> TrainResult:
    """Build the run, lock its folder, train, and print the outcome. Every rank calls this.

    Where nobody has given a batch size, the one that suits the data is taken first (see `follow_data`).

    Args:
        kit: of the task that the config chooses.
        composed: the config.
        stop: listens for what asks the run to stop.
        make_console: makes the console of each rank, once the run is built.
        more_sinks: make sinks beside those of the config.

    Raises:
        UserError: config, data, folder or checkpoint are at fault, or the training diverges.
        Preempted: it was asked to stop, and has saved.
    """
    before = usage()
    composed, opened = world.on_all_ranks(lambda: follow_data(kit, composed, world.size))
    config = composed.config
    if config.run_dir is not None:
        folder = world.broadcast(Path(config.run_dir))  # one folder, whatever the other ranks were given
        return _run_in(folder, kit, composed, opened, world, stop, make_console, more_sinks, before)
    with ExitStack() as stack:  # of this run alone, whatever else starts in this second
        folder = world.on_main(lambda: stack.enter_context(held_folder(default_run_dir(composed))))
        return _run_in(folder, kit, composed, opened, world, stop, make_console, more_sinks, before)


def _run_in(
    folder: Path,
    kit: Kit[Any, Any],
    composed: Composed[Config],
    opened: Datasets | None,
    world: World,
    stop: Stop,
    make_console: MakeConsole,
    more_sinks: Sequence[MakeSink],
    before: Usage | None,
) -> TrainResult:
    """`run_training` in a folder; `before` is the processor's usage when it began."""
    config = composed.config
    tree = redacted_tree({**composed.tree, "run_dir": str(folder)})  # what is stored, and shown by W&B
    # what the command line changes in the run's own config is meant
    resume = "force" if composed.goes_on and config.resume == "auto" else config.resume
    world.on_main(lambda: check_run_folder(folder, tree, resume, type(config)))
    run = build_run(kit, config, tree, world=world, folder=folder, opened=opened)
    run.trainer.stop = stop
    warnings, notes = _compared_with_repeated(composed, run, world)
    with occupied(folder, tree, resume, type(config), world=world) as note:
        try:
            console = make_console(kit, run)
            with _logging_to(console, world):
                for text in warnings:
                    console.warn(text)
                for text in [*composed.notes, *([note] if note else []), *notes, *run.notes]:
                    console.warn(text) if text.startswith("checkpoint skipped") else console.say(text)
                if world.size == 1 and world.device.type == "cpu" and config.dist.threads is None:
                    hint = too_many_threads(before, usage(), torch.get_num_threads())
                    if hint is not None:
                        console.say(hint)
                _fit(kit, composed, tree, run, more_sinks, world=world, folder=folder, console=console)
        except Preempted as asked:
            asked.run_dir = folder
            raise
    trainer = run.trainer
    return TrainResult(
        folder,
        trainer.state.step,
        trainer.total_steps,
        trainer.state.best,
        _newest_metrics(folder),
        kit.metrics.headline.direction,
    )


def _compared_with_repeated(
    composed: Composed[Config], run: Run, world: World
) -> tuple[list[str], list[str]]:
    """Warnings and notes about the run that `from=` repeats, if any."""
    repeats = composed.repeats
    if repeats is None:
        return [], []
    warnings = world.on_main(lambda: compared(repeats, run.datasets.identity(), world=world))
    return warnings, [f"repeating {repeats.file}"]


@contextmanager
def _logging_to(console: Console, world: World) -> Iterator[None]:
    """Have what the program logs said by the console of rank 0, and by the other ranks on their stderr."""
    handler = ConsoleHandler(console) if world.is_main else other_ranks_handler(world.rank)
    logger = logging.getLogger("hornet_train")
    before, level = logger.handlers, logger.level
    logger.handlers = [handler]
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.handlers = before
        logger.setLevel(level)


def _fit(
    kit: Kit[Any, Any],
    composed: Composed[Config],
    tree: Mapping[str, Any],
    run: Run,
    more_sinks: Sequence[MakeSink],
    *,
    world: World,
    folder: Path,
    console: Console,
) -> None:
    """Train the steps that are left, and print the outcome."""
    trainer, begin = run.trainer, time.monotonic()
    step, total = trainer.state.step, trainer.total_steps
    if step > total:
        console.say(f"{folder}: this run is at step {step:,}, past the {total:,} that are asked for")
    elif step == total and not trainer.evaluation_due:
        more = f"hornet-train {shell_join([f'run_dir={folder}'])} epochs=<more> trains it on"
        console.say(f"{folder}: this run is complete at step {step:,}; {more}, resume=restart again")
    else:
        console.start_panel(run.facts, "hornet-train")
        with ExitStack() as stack:
            trainer.advance = console.advance
            world.on_main(
                lambda: open_sinks(kit, composed.config, tree, run, world, folder, console, more_sinks, stack)
            )
            if run.resumed_from is not None:
                trainer.emit("resumed", **run.lost_best)
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
        own = [] if composed.task in NAMES else [f"task={composed.task}"]
        console.say(f"evaluate: hornet-eval {shell_join([f'checkpoint={folder}', *own])}")


def _newest_metrics(folder: Path) -> dict[str, dict[str, float]]:
    """The newest `eval` event of each kind of weights, by the run folder."""
    found: dict[str, dict[str, float]] = {}
    if not (folder / "metrics.jsonl").exists():  # of a complete run somebody may have moved it away
        return found
    for event in read_events(folder / "metrics.jsonl"):
        if event.get("event") == "eval":
            found[str(event["weights"])] = {
                name: value for name, value in event.items() if name not in ("event", "weights", "epoch")
            }
    return found
