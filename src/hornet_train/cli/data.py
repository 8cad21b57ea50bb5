"""`hornet-data`: data sets checked and packed before they are trained on."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from typing import NoReturn

from hornet_train.cli.command import run_command
from hornet_train.errors import ConfigError, did_you_mean

# Subcommand -> (module with `parser()` and `run(options)`, what it does). Imported when it is asked for.
SUBCOMMANDS = {
    "check": ("hornet_train.cli.data_check", "is a data set whole, and can it be trained on?"),
    "bench": ("hornet_train.cli.data_bench", "how fast images come, beside timm's loader"),
    "show": ("hornet_train.cli.data_show", "a picture of the training images as the model sees them"),
    "pack": ("hornet_train.cli.data_pack", "class folders into parquet or webdataset shards"),
}

HELP = """\
hornet-data <command> ...

Looks after data sets before they are trained on.

Commands; hornet-data <command> --help tells more:
{commands}

  --help       this text
  --version    the version, and stop
"""


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script."""
    given = sys.argv[1:] if arguments is None else arguments
    after = "; the same command goes on with what is finished" if given[:1] == ["pack"] else ""
    run_command(_work, _answer_questions, arguments, after_interrupt=after, needs_timm=False)


def _answer_questions(arguments: list[str]) -> list[str] | None:
    """Answer --help and --version; the arguments where there is something to do.

    Raises:
        ConfigError: there is no such command or flag, or one has no such value.
    """
    if not arguments or arguments[0] in ("--help", "-h"):
        commands = "\n".join(f"  {name:<12} {what}" for name, (_, what) in SUBCOMMANDS.items())
        sys.stdout.write(HELP.format(commands=commands))
        return None
    if arguments == ["--version"]:
        sys.stdout.write(f"hornet-data {version('hornet-train')}\n")
        return None
    name, *flags = arguments
    if name not in SUBCOMMANDS:
        raise ConfigError(f"hornet-data has no command {name!r}: {did_you_mean(name, SUBCOMMANDS)}")
    parser = import_module(SUBCOMMANDS[name][0]).parser()
    if {"--help", "-h"} & set(flags):
        sys.stdout.write(parser.format_help())
        return None
    parser.read(flags)  # a mistake is told before anything slow is imported
    return arguments


def _work(arguments: list[str]) -> None:
    name, *flags = arguments
    module = import_module(SUBCOMMANDS[name][0])
    module.run(module.parser().read(flags))


if __name__ == "__main__":
    main()
