"""`hornet-data bench`: how fast images are loaded."""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from hornet_train.cli.flags import Parser, add_workers, cores, whole_number
from hornet_train.errors import ConfigError
from hornet_train.track.output_file import check_output

if TYPE_CHECKING:
    from hornet_train.bench.data_pipeline import Ratio

DESCRIPTION = """\
Measures the data pipeline on JPEGs of 500 x 375 pixels and 75 kB. Compared are: the work on an image with
the bare JPEG decode, our loaders with timm's, the first batch after a resume with the first batch of an
epoch; then loading with 1, 2, 4, ... up to --workers processes, and their memory. The sides
take turns in one process; figures are medians over the rounds. Run nothing else meanwhile."""

EXAMPLES = """\
  # everything; timm's RandAugment needs Pillow 12, which make installs in a folder of its own
  make bench-data
  # without timm, on your own images
  hornet-data bench --without-timm --images /data/imagenet
  # how many workers feed the GPUs of this machine
  hornet-data bench --only scaling --images /data/imagenet"""

_FILES = 1600
_DIFFERENT = 400


def parser() -> Parser:
    """The flags of the command."""
    made = Parser("hornet-data bench", DESCRIPTION, EXAMPLES)
    made.add_argument(
        "--images",
        type=Path,
        metavar="ROOT",
        help=f"a folder with train/<class>/; at most {_FILES:,} images are read (default: generated JPEGs)",
    )
    made.add_argument(
        "--rounds",
        type=whole_number(1),
        default=5,
        metavar="N",
        help="measurements of each side (default: 5)",
    )
    made.add_argument(
        "--only",
        choices=("pipeline", "scaling"),
        help="only the comparisons, or only the numbers of workers (default: both)",
    )
    made.add_argument("--without-timm", action="store_true", help="skip the comparison with timm")
    made.add_argument("--json", type=Path, metavar="FILE", help="also write the figures to this file")
    add_workers(made)
    return made


def run(options: argparse.Namespace) -> None:
    """Measure, and print a table.

    Raises:
        DataError: there are too few images, or timm cannot run with this Pillow.
        ConfigError: the file of --json cannot be written.
    """
    if options.json is not None:
        check_output(f"--json={options.json}", options.json.expanduser(), ".json")
    from hornet_train._timm import import_timm
    from hornet_train.bench.data_pipeline import measure
    from hornet_train.bench.loader_scaling import Rate, measure_scaling, worker_counts
    from hornet_train.bench.pictures import make_pictures
    from hornet_train.track.console import ConsoleSink
    from hornet_train.track.durable_files import write_json

    import_timm()
    console = ConsoleSink(1, 1, interactive=False)

    def compare(root: Path) -> list[Ratio]:
        if options.only == "scaling":
            return []
        return measure(
            root,
            workers=options.workers,
            rounds=options.rounds,
            against_timm=not options.without_timm,
            say=console.say,
        )

    def scale(root: Path) -> list[Rate]:
        if options.only == "pipeline":
            return []
        return measure_scaling(root, worker_counts(options.workers), rounds=options.rounds, say=console.say)

    with tempfile.TemporaryDirectory(prefix="hornet-bench-") as folder:
        root = Path(folder) if options.images is None else options.images.expanduser()
        if options.images is None:
            console.say(f"generating {_FILES:,} JPEGs")
            make_pictures(root, different=_DIFFERENT, files=_FILES)
        compared, scaled = compare(root), scale(root)
    if compared:
        title = f"{options.workers} workers, medians of {options.rounds} rounds"
        columns = ("compared", "ours", "other", "unit", "ratio", "from", "to")
        rows = [
            (one.what, f"{one.ours:.1f}", f"{one.other:.1f}", one.unit, *_spread(one)) for one in compared
        ]
        console.table(title, columns, rows)
    if scaled:
        title = f"{cores()} cores, medians of {options.rounds} rounds, and the most memory in any"
        columns = ("workers", "images/s", "ratio", "from", "to", "MB of one worker", "MB shared by all")
        rows = [
            (one.what, f"{one.ours:.1f}", *_spread(one), _size(one.worker_mb), _size(one.shared_mb))
            for one in scaled
        ]
        console.table(title, columns, rows)
    if options.json is not None:
        try:
            write_json(options.json.expanduser(), [asdict(one) for one in (*compared, *scaled)])
        except OSError as error:
            raise ConfigError(f"--json={options.json} cannot be written ({error.strerror})") from error


def _spread(found: Ratio) -> tuple[str, str, str]:
    return f"{found.ratio:.2f}", f"{found.least:.2f}", f"{found.most:.2f}"


def _size(megabytes: float | None) -> str:
    return "" if megabytes is None else f"{megabytes:.0f}"
