"""Where a run's events go: its folder, the console, TensorBoard, Weights & Biases."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hornet_train.config.schema import Config
from hornet_train.engine.distributed import World
from hornet_train.errors import ConfigError
from hornet_train.run.build import Run
from hornet_train.run.folder import open_run_folder
from hornet_train.run.gone_files import list_files, reported_in_evaluations
from hornet_train.tasks.kit import Kit
from hornet_train.track.console import Console
from hornet_train.track.metric_table import MetricTable
from hornet_train.track.sinks import JsonlSink, Sink, TensorBoardSink

MakeSink = Callable[[Path, MetricTable], Sink]  # (run folder, metrics of the task) -> a sink


def open_sinks(
    kit: Kit[Any, Any],
    config: Config,
    tree: Mapping[str, Any],
    run: Run,
    world: World,
    folder: Path,
    console: Console,
    more: Sequence[MakeSink],
    stack: ExitStack,
) -> None:
    """Have rank 0's events go to the run folder and elsewhere, until `stack` is left.

    Args:
        more: make further sinks, which may read metrics.jsonl: the picture of the curves.

    Raises:
        ConfigError: the folder cannot be written.
    """
    log, step = config.log, run.resumed_from
    again = frozenset({"rollback", *(["eval", "bad_eval_sample"] if run.trainer.evaluation_due else [])})
    rollbacks = run.trainer.state.fault_history.rollbacks
    open_run_folder(folder, tree, world=world, step=step or 0, again=again, rollbacks=rollbacks)
    list_files(folder, run.datasets)
    try:
        jsonl = JsonlSink(folder / "metrics.jsonl")
        sinks: list[Sink] = [jsonl, console, *(make(folder, kit.metrics) for make in more)]
        if log.tensorboard:
            sinks.append(TensorBoardSink(folder / "tensorboard", resume_step=step))
    except OSError as error:
        raise ConfigError([f"{error.filename or folder} cannot be written ({error.strerror})"]) from error
    run.trainer.damage.named |= reported_in_evaluations(folder / "metrics.jsonl")
    if log.wandb:
        from hornet_train.track.wandb_sink import WandbSink

        wandb = WandbSink(
            folder, tree, log.wandb_project, log.wandb_name, log.wandb_entity, metrics=kit.metrics
        )
        if wandb.where:
            console.say(f"Weights & Biases: {wandb.where}")
        sinks.append(wandb)
    for sink in reversed(sinks):  # the stack closes them in their order: pictures after metrics.jsonl
        stack.callback(sink.close)
    run.trainer.sinks = sinks
