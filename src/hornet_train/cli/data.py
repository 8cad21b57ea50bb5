"""`hornet-data`: check, pack, benchmark and look at data sets before training."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.metadata import version
from typing import NoReturn

from hornet_train.cli.command import run_command
from hornet_train.errors import ConfigError, did_you_mean

# Subcommand -> (module with `parser()` and `run(options)`, line in --help). Imported only when it is used.
SUBCOMMANDS = {
    "check": ("hornet_train.cli.data_check", "check that a data set is complete and can be trained on"),
    "bench": ("hornet_train.cli.data_bench", "measure how fast images load, compared with timm's loader"),
    "show": ("hornet_train.cli.data_show", "draw training images as the model sees them"),
    "pack": ("hornet_train.cli.data_pack", "pack class folders into parquet or webdataset shards"),
}

HELP = """\
hornet-data <command> ...

Checks, packs, measures and shows data sets before training.

Commands (details: hornet-data <command> --help):
{commands}

  --help       print this text
  --version    print the version
"""


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script."""
    given = sys.argv[1:] if arguments is None else arguments
    after = "; the same command continues: finished shards are reused" if given[:1] == ["pack"] else ""
    run_command(_work, _answer_questions, arguments, after_interrupt=after)


def _answer_questions(arguments: list[str]) -> list[str] | None:
    """Answer --help and --version and return None; else return the arguments.

    Raises:
        ConfigError: an unknown command or flag, or a flag with an invalid value.
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
    parser.read(flags)  # report a mistake before anything slow is imported
    return arguments


def _work(arguments: list[str]) -> None:
    name, *flags = arguments
    module = import_module(SUBCOMMANDS[name][0])
    module.run(module.parser().read(flags))


if __name__ == "__main__":
    main()
