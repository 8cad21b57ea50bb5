"""`hornet-data check`: check that a data set is complete and can be trained on."""

from __future__ import annotations

import argparse
from pathlib import Path

from hornet_train.cli.flags import Parser, add_task, add_workers, names, positive
from hornet_train.errors import ConfigError, DataError
from hornet_train.track.output_file import check_suffix

DESCRIPTION = """\
Checks a data set of class folders (ROOT/train/<class>/, ROOT/val/<class>/): its layout, which known
data set it is, whether train and val have the same classes, whether class names are nearly the same,
whether every file can be decoded, and how many photos have an EXIF orientation. The exit code is 0 if it
can be trained on, else 2; the last line says why. Up to 0.1% of the training files, or two, may be damaged:
training replaces them. Held-out files may be damaged too, but not all of them: a training leaves them out
of its evaluations. The check warns of them, as hornet-eval stops at the first unless data.on_bad=skip."""

EXAMPLES = """\
  # ImageNet, with every core
  hornet-data check /data/imagenet
  # folders with other names, and another file for the list of damaged images
  hornet-data check photos --splits training,test --csv photos-damaged.csv
  # names only, without opening files: seconds instead of hours
  hornet-data check /data/imagenet22k --splits train --no-decode"""


def parser() -> Parser:
    """The flags of the command."""
    made = Parser("hornet-data check", DESCRIPTION, EXAMPLES)
    made.add_argument("root", metavar="ROOT", type=Path, help="the folder that holds train/ and val/")
    made.add_argument(
        "--splits",
        type=names,
        default=("train", "val"),
        metavar="NAMES",
        help="folders in ROOT, comma-separated, the training images first (default: train,val)",
    )
    add_task(made)
    add_workers(made)
    made.add_argument(
        "--csv",
        type=Path,
        metavar="FILE",
        help="the list of damaged files, path,reason (default: damaged.csv); written only if there are any",
    )
    made.add_argument(
        "--timeout",
        type=positive,
        metavar="SECONDS",
        help="a file that takes longer counts as damaged (default: 60)",
    )
    made.add_argument("--no-decode", action="store_true", help="check names only, without opening files")
    return made


def run(options: argparse.Namespace) -> None:
    """Check, and print a report.

    Raises:
        DataError: the data set cannot be used; the last line of the report says why.
        ConfigError: the flags exclude each other.
    """
    from hornet_train.prepare.check_dataset import check
    from hornet_train.tasks.table import files_of
    from hornet_train.track.console import ConsoleSink

    if options.no_decode and (options.csv is not None or options.timeout is not None):
        raise ConfigError("--csv and --timeout apply to decoding: leave them out with --no-decode")
    if options.csv is not None and not options.csv.exists():
        check_suffix(f"--csv={options.csv}", options.csv, ".csv")
    report = check(
        files_of(options.task),
        options.root.expanduser(),
        options.splits,
        workers=options.workers,
        timeout=options.timeout or 60.0,
        damaged_csv=options.csv or Path("damaged.csv"),
        decode_files=not options.no_decode,
    )
    console = ConsoleSink(1, 1, interactive=False)
    for line in report.found.lines:
        console.say(line)
    for warning in report.found.warnings:
        console.say(f"warning: {warning}")
    console.say(report.verdict() + (" (names only; no file was opened)" if options.no_decode else ""))
    if report.found.faults:
        used = "trained" if report.found.evaluates is None else "evaluated"
        raise DataError(f"{options.root} cannot be {used} on as it is; the report's last line says why")
