"""`hornet-data check`: check that a data set is complete and can be trained on."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING

from hornet_train.cli.flags import Parser, add_task, add_workers, names, positive
from hornet_train.errors import ConfigError, DataError
from hornet_train.track.output_file import check_suffix

if TYPE_CHECKING:
    from hornet_train.tasks.stored_files import FilesFound

DESCRIPTION = """\
Checks a data set of class folders (ROOT/train/<class>/, ROOT/val/<class>/): its layout, which known
data set it is, whether train and val have the same classes, whether class names are nearly the same,
whether every file can be decoded, and how many photos have an EXIF orientation. The exit code is 0 if it
can be trained on, else 2; the last line says why. Up to 0.1% of the training files, or two, may be damaged:
training replaces them. Held-out files may be damaged too, but not all of them: a training leaves them out
of its evaluations. The check warns of them, as hornet-eval stops at the first unless data.on_bad=skip.

With --task segmentation, or keys of such data, pictures and masks: whether each has its partner of the same
size, which values the masks have, how many pixels each class has, and which never come. With --task
detection, pictures with COCO's JSON: boxes and masks that cannot be, or do not fit each other or their
picture, by the ids of the annotations."""

EXAMPLES = """\
  # ImageNet, with every core
  hornet-data check /data/imagenet
  # folders with other names, and another file for the list of damaged images
  hornet-data check photos --splits training,test --csv photos-damaged.csv
  # pictures with masks; with the keys of a training where the masks need them
  hornet-data check photos --task segmentation
  hornet-data check data=masks data.root=photos data.values=[0,255]
  # pictures with boxes and masks
  hornet-data check photos --task detection
  # names only, without opening files: seconds instead of hours
  hornet-data check /data/imagenet22k --splits train --no-decode"""


def parser() -> Parser:
    """The flags of the command."""
    made = Parser("hornet-data check", DESCRIPTION, EXAMPLES)
    made.add_argument(
        "what",
        metavar="ROOT | key=value",
        nargs="+",
        help="the folder that holds train/ and val/, or images/ and masks/, or a JSON and images/; or keys "
        "as for hornet-train, data=masks data.root=photos ...",
    )
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
    made.add_argument(
        "--no-decode",
        action="store_true",
        help="check names and annotations alone, without decoding pictures",
    )
    return made


def run(options: argparse.Namespace) -> None:
    """Check, and print a report.

    Raises:
        DataError: the data set cannot be used; the last line of the report says why.
        ConfigError: the flags exclude each other.
    """
    from hornet_train.prepare.check_dataset import check
    from hornet_train.track.console import ConsoleSink

    if options.no_decode and (options.csv is not None or options.timeout is not None):
        raise ConfigError("--csv and --timeout apply to decoding: leave them out with --no-decode")
    if options.csv is not None and not options.csv.exists():
        check_suffix(f"--csv={options.csv}", options.csv, ".csv")
    report = check(
        _found(options),
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
    console.say(report.verdict() + (" (names and annotations alone)" if options.no_decode else ""))
    if report.found.faults:
        used = "trained" if report.found.evaluates is None else "evaluated"
        what = " ".join(options.what)
        raise DataError(f"{what} cannot be {used} on as it is; the report's last line says why")


def _found(options: argparse.Namespace) -> FilesFound:
    """What the names of the files say, and the masks.

    Raises:
        DataError: there is nothing to check.
        ConfigError: neither one folder nor keys are given, or the keys do not fit.
    """
    from hornet_train.tasks.table import NAMES, files_of, find, kit_of

    keys = [one for one in options.what if re.match(r"[a-z_.]+=", one)]
    if not keys:
        if len(options.what) > 1:
            raise ConfigError([f"one folder at a time, not {' '.join(options.what)}"])
        return files_of(options.task).check_files(
            Path(options.what[0]).expanduser(), options.splits, open_files=not options.no_decode
        )
    if len(keys) < len(options.what):
        folder = next(one for one in options.what if one not in keys)
        raise ConfigError([f"{folder} beside keys: data.root={folder} names the folder"])
    from hornet_train.config.compose_train import compose_train

    composed = compose_train(keys, find=find, names=NAMES)
    assert composed.task is not None
    found: FilesFound = kit_of(composed.task).check_data(
        composed.config.data, open_files=not options.no_decode
    )
    return found
