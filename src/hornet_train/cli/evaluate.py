"""`hornet-eval`: evaluate a checkpoint."""

from __future__ import annotations

from typing import NoReturn

from hornet_train.cli.command import run_command
from hornet_train.cli.help import answer_eval_questions


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script."""
    run_command(_evaluate, answer_eval_questions, arguments)


def _evaluate(overrides: list[str]) -> None:
    from hornet_train.library import evaluate

    evaluate(overrides)


if __name__ == "__main__":
    main()
