"""`hornet-train --multirun`: several trainings, one after the other or as jobs on a cluster."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NoReturn

from hornet_train.cli.command import run_command
from hornet_train.cli.help import answer_questions
from hornet_train.cli.sweep_job import train_in_a_process
from hornet_train.config.hydra_flags import without_config_flag
from hornet_train.errors import ConfigError

FLAGS = ("--multirun", "-m")


def main(arguments: list[str]) -> NoReturn:
    """`hornet-train` with one of `FLAGS`; exits with the code of the first job that failed."""
    hint = "; submitted jobs keep running; the same command with the same hydra.sweep.dir continues the sweep"
    others = [argument for argument in arguments if argument not in FLAGS]
    run_command(_sweep, _questions, others, after_interrupt=hint)


def _questions(arguments: list[str]) -> list[str] | None:
    if without_config_flag(arguments) is not None:
        raise ConfigError("--cfg job prints the config of one training: leave --multirun out")
    return answer_questions(arguments)


def _sweep(arguments: list[str]) -> None:
    from hornet_train.cli.ranking import for_console, table, write_ranking
    from hornet_train.cli.sweep_data import check_data
    from hornet_train.config.sweep import sweep
    from hornet_train.tasks.table import NAMES, find
    from hornet_train.track.console import ConsoleSink

    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise ConfigError(
            "--multirun starts processes itself: start it directly, not under torchrun. Several processes: "
            "hydra/launcher=submitit_local hydra.launcher.tasks_per_node=8"
        )
    ended = sweep(
        arguments, train_in_a_process, find=find, names=NAMES, held_folder=_held_folder, check=check_data
    )
    failed = [job for job in ended if job.code]
    for job in failed:
        sys.stderr.write(f"hornet-train: exit code {job.code}: {' '.join(job.overrides)}\n")
    file = write_ranking(ended)
    console = ConsoleSink(1, 1, interactive=False)
    heads, *rows = for_console(*table(ended))
    console.table(f"{len(ended)} jobs, the best first", heads, rows)
    console.say(f"ranking: {file}")
    if failed:
        sys.exit(failed[0].code)


def _held_folder(place: Path) -> AbstractContextManager[Path]:
    from hornet_train.run.folder import held_folder  # which imports torch

    return held_folder(place)
