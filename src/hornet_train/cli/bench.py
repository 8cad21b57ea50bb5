"""`hornet-bench`: how fast models and the loop are, beside others, as anyone can repeat it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from hornet_train.cli.command import joined, run_command
from hornet_train.cli.help import answer_bench_questions
from hornet_train.config.compose import compose_step_bench
from hornet_train.errors import ConfigError, did_you_mean


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script."""
    run_command(_work, answer_bench_questions, arguments)


def _work(arguments: list[str]) -> None:
    name, *overrides = arguments
    if name not in BENCHES:
        raise ConfigError(f"hornet-bench has no {name!r}: {did_you_mean(name, BENCHES)}")
    BENCHES[name](overrides)


def _step(overrides: list[str]) -> None:
    from hornet_train.bench.contenders import contenders_of
    from hornet_train.bench.step import Case, measure
    from hornet_train.report.bench import draw_ratios
    from hornet_train.track.console import ConsoleSink
    from hornet_train.track.environment import environment
    from hornet_train.track.files import write_json

    config = compose_step_bench(overrides).config
    for key, value in (("out", config.out), ("plot", config.plot)):
        check_writable(key, value)
    contenders = contenders_of(config.peers, config.models, config.image_size, plain=config.plain)
    console = ConsoleSink(1, 1, interactive=False)
    with joined(config.dist) as world:
        results = [
            one
            for mode in config.modes
            for one in measure(
                contenders,
                Case(mode, config.batch_size, config.image_size, config.precision, world.device),
                rounds=config.rounds,
                compiling=config.compile,
                say=console.say,
            )
        ]
        ran_on = environment(device=world.device.type)
    title = (
        f"{config.batch_size} images of {config.image_size} pixels, {config.precision}, median of "
        f"{config.rounds} rounds; ratio: times as fast as {config.peers[0]}"
    )
    columns = ("", "model", "images/s", "ratio", "from", "to", "fastest when")
    rows = [
        (one.mode, one.name, f"{one.images_per_second:.1f}", *(f"{r:.2f}" for r in one.ratio), one.setting)
        for one in results
    ]
    console.table(title, columns, rows)
    if config.out is not None:
        measured = [one.as_json() for one in results]
        settings = {
            name: getattr(config, name) for name in ("batch_size", "image_size", "precision", "rounds")
        }
        write_json(Path(config.out), {**settings, "environment": ran_on, "measured": measured})
        console.say(f"figures: {config.out}")
    if config.plot is not None:
        draw_ratios([(one.mode, one.name, one.ratio) for one in results], Path(config.plot), title)
        console.say(f"plot: {config.plot}")


BENCHES: dict[str, Callable[[list[str]], None]] = {"step": _step}


def check_writable(key: str, value: str | None) -> None:
    """Raises ConfigError where a file of that name could not be written; before anything is measured."""
    if value is None:
        return
    folder = Path(value).absolute().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK) or Path(value).is_dir():
        raise ConfigError(
            [f"{key}={value} cannot be written: give the path of a file in a folder that is there"]
        )


if __name__ == "__main__":
    main(sys.argv[1:])
