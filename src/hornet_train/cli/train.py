"""`hornet-train`: train a model. Heavy imports wait until there is something to train."""

from __future__ import annotations

import sys
from typing import NoReturn

from hornet_train.cli.command import Stopped, launched_rank, run_command
from hornet_train.cli.help import answer_questions
from hornet_train.cli.job_report import report
from hornet_train.cli.replay import KEY, run_replay
from hornet_train.cli.sweep import FLAGS
from hornet_train.cli.sweep import main as run_sweep


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if set(FLAGS) & set(arguments):
        run_sweep(arguments)
    # an interrupt that is not `Preempted` comes before a run folder is touched
    hint = f"; {_way_on(arguments, 'from the last checkpoint', begun=False)}"
    run_command(_train, answer_questions, arguments, after_interrupt=hint)


def _way_on(arguments: list[str], where: str, *, begun: bool) -> str:
    """How to go on after a stop. `begun`: whether the run has its folder, and an earlier one was moved."""
    if not any(text.lstrip("+") == "resume=restart" for text in arguments):
        return f"the same command with the same run_dir resumes {where}"
    if begun:
        return f"the same command without resume=restart and with the same run_dir resumes {where}"
    return "nothing has changed, and the same command begins again"


def _train(overrides: list[str]) -> None:
    from hornet_train.errors import Preempted
    from hornet_train.library import train

    if any(text.startswith(KEY) for text in overrides):
        run_replay(overrides)
        return
    try:
        result = train(overrides)
    except Preempted as asked:
        raise Stopped(
            f"stopped by {asked.reason}: "
            + ("saved; " if asked.saved else "nothing was trained yet; ")
            + _way_on(overrides, "the run", begun=asked.run_dir is not None)
            + (f": run_dir={asked.run_dir}" if asked.saved and asked.run_dir else "")
        ) from None
    best = vars(result.best) if result.best is not None else {}
    report({"run_dir": str(result.run_dir), "direction": result.direction, **best}, launched_rank())


if __name__ == "__main__":
    main()
