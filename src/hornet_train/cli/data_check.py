"""`hornet-data check`: is a data set whole, and can it be trained on?"""

from __future__ import annotations

import argparse
from pathlib import Path

from hornet_train.cli.flags import Parser, add_workers, names, positive
from hornet_train.errors import ConfigError, DataError

DESCRIPTION = """\
Checks a data set of class folders (ROOT/train/<class>/, ROOT/val/<class>/): its layout, which known
data set it is, whether train and val have the same classes, class names that are nearly the same, and
every file, decoded. Ends with exit code 0 where it can be trained on (up to 0.1% of the training files
may be damaged: training replaces them), with 2 where it cannot; the last line says why."""

EXAMPLES = """\
  # ImageNet, with every core
  hornet-data check /data/imagenet
  # folders of other names, the damaged files to a list of your own
  hornet-data check photos --splits training,test --csv photos-damaged.csv
  # names only: seconds, not hours
  hornet-data check /data/imagenet22k --splits train --no-decode"""


def parser() -> Parser:
    """The flags."""
    made = Parser("hornet-data check", DESCRIPTION, EXAMPLES)
    made.add_argument("root", metavar="ROOT", type=Path, help="the folder that holds train/ and val/")
    made.add_argument(
        "--splits",
        type=names,
        default=("train", "val"),
        metavar="NAMES",
        help="folders in ROOT, comma-separated, that of the training images first (default: train,val)",
    )
    add_workers(made)
    made.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="where damaged files are listed as path,reason (default: damaged.csv); written if there are any",
    )
    made.add_argument(
        "--timeout",
        type=positive,
        metavar="SECONDS",
        help="a file that takes longer counts as damaged (default: 60)",
    )
    made.add_argument("--no-decode", action="store_true", help="look at names only, open no file")
    return made


def run(options: argparse.Namespace) -> None:
    """Check and report.

    Raises:
        DataError: the data set cannot be used; the last line printed says why.
        ConfigError: flags that do not go together.
    """
    from hornet_train.prepare.check_dataset import check
    from hornet_train.track.console import ConsoleSink

    if options.no_decode and (options.csv is not None or options.timeout is not None):
        raise ConfigError("--csv and --timeout are about decoding: leave them out with --no-decode")
    report = check(
        options.root.expanduser(),
        options.splits,
        workers=options.workers,
        timeout=options.timeout or 60.0,
        damaged_csv=options.csv or Path("damaged.csv"),
        decode_files=not options.no_decode,
    )
    console = ConsoleSink(1, 1, interactive=False)
    for line in report.lines:
        console.say(line)
    for warning in report.warnings:
        console.say(f"warning: {warning}")
    console.say(report.verdict() + (" (names only; no file was opened)" if options.no_decode else ""))
    if report.faults:
        raise DataError(f"{options.root} cannot be trained on as it is; the report's last line says why")
