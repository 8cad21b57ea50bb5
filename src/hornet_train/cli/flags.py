"""Flags for the commands without a config: argparse with the error messages of the other commands."""

from __future__ import annotations

import argparse
import os
import re
import sys
from importlib.metadata import version
from typing import Any, NoReturn

from hornet_train.errors import ConfigError, did_you_mean

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that raises ConfigError on a mistake; for an unknown flag it suggests the nearest."""

    def __init__(self, command: str, description: str, examples: str) -> None:
        super().__init__(
            prog=command,
            description=description,
            epilog=f"examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def read(self, arguments: list[str]) -> argparse.Namespace:
        """Parse the arguments.

        Raises:
            ConfigError: an unknown flag, or a missing or invalid value.
        """
        flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
        for argument in arguments:
            name = argument.split("=", 1)[0]
            if name.startswith("--") and name not in flags:
                raise ConfigError(f"unknown flag {name} of {self.prog}: {did_you_mean(name, flags)}")
        return self.parse_intermixed_args(arguments)

    def questions(self, arguments: list[str]) -> list[str] | None:
        """Answer --help, --version and an empty command line and return None; else return the arguments.

        Raises:
            ConfigError: an unknown flag, or a missing or invalid value.
        """
        if not arguments or {"--help", "-h"} & set(arguments):
            sys.stdout.write(self.format_help())
            return None
        if arguments == ["--version"]:
            sys.stdout.write(f"{self.prog} {version('hornet-train')}\n")
            return None
        self.read(arguments)
        return arguments

    def error(self, message: str) -> NoReturn:
        """Raises ConfigError instead of exiting."""
        raise ConfigError(f"{message} (see {self.prog} --help)")


def whole_number(least: int, most: int | None = None) -> Any:
    """An argparse type: an integer from `least` to `most`; None: no upper bound."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"-?\d+", text) or int(text) < least or (most is not None and int(text) > most):
            bounds = f"at least {least}" if most is None else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {bounds}")
        return int(text)

    return parse


def positive(text: str) -> float:
    """An argparse type: a finite number above 0."""
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text) or not float(text) > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return float(text)


def factors(text: str) -> tuple[float, ...]:
    """An argparse type: different numbers above 0, as in 0.75,1,1.25."""
    found = tuple(map(positive, text.split(",")))
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} names a factor twice")
    return found


def share(text: str) -> float:
    """An argparse type: a number from 0 to 1."""
    if not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text) or float(text) > 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return float(text)


def size(text: str) -> int:
    """An argparse type: a number of bytes, given as 512MB, 1.5GiB or 1000000."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?i?B)?", text, re.IGNORECASE)
    unit = (found[2] or "").upper() if found else ""
    if not found or unit not in _UNITS or float(found[1]) * _UNITS[unit] < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 512MB, 1.5GB or 300MiB")
    return int(float(found[1]) * _UNITS[unit])


def names(text: str) -> tuple[str, ...]:
    """An argparse type: distinct folder names, comma-separated."""
    parts = tuple(part.strip() for part in text.split(","))
    if (
        not all(parts)
        or len(set(parts)) < len(parts)
        or any("/" in part or part in (".", "..") for part in parts)
    ):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of distinct folder names such as train,val")
    return parts


def cores() -> int:
    """How many CPU cores this process may use."""
    return len(os.sched_getaffinity(0))


def add_task(parser: Parser) -> None:
    """Add the --task flag: what the images of a data set are for, and so what belongs to each."""
    parser.add_argument(
        "--task",
        default="classification",
        metavar="NAME",
        help="what the data are for, as for task=; also a file of your own (default: %(default)s)",
    )


def add_workers(parser: Parser) -> None:
    """Add the --workers flag, which every parallel command has."""
    parser.add_argument(
        "--workers",
        type=whole_number(1),
        default=cores(),
        metavar="N",
        help="number of processes (default: one per core, here %(default)s)",
    )


def keys_and_pictures(given: list[str]) -> tuple[list[str], list[str]]:
    """Apart: overrides, and what names pictures; an argument that is the name of a file is one."""
    keys = [one for one in given if re.match(r"[+~]*[a-z_][a-z0-9_.]*=", one) and not os.path.lexists(one)]
    return keys, [one for one in given if one not in keys]
