"""`hornet-train`: train a model. Heavy imports wait until there is something to train."""

from __future__ import annotations

import sys
from typing import NoReturn

from hornet_train.cli.command import Stopped, run_command
from hornet_train.cli.help import answer_questions
from hornet_train.cli.replay import KEY, run_replay
from hornet_train.cli.sweep import FLAGS
from hornet_train.cli.sweep import main as run_sweep


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if set(FLAGS) & set(arguments):
        run_sweep(arguments)
    hint = "; the same command with the same run_dir resumes from the last checkpoint"
    run_command(_train, answer_questions, arguments, after_interrupt=hint)


def _train(overrides: list[str]) -> None:
    from hornet_train.engine.preemption import Preempted
    from hornet_train.library import train

    if any(text.startswith(KEY) for text in overrides):
        run_replay(overrides)
        return
    try:
        train(overrides)
    except Preempted as asked:
        raise Stopped(
            f"stopped by {asked.reason}: "
            + ("saved; " if asked.saved else "nothing was trained yet; ")
            + "the same command with the same run_dir resumes the run"
        ) from None


if __name__ == "__main__":
    main()
