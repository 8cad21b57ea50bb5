"""`hornet-data bench`: how fast images are loaded."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from hornet_train.cli.flags import Parser, add_workers, whole_number
from hornet_train.errors import ConfigError
from hornet_train.track.output_file import check_output

DESCRIPTION = """\
Measures the data pipeline on JPEGs of 500 x 375 pixels and 75 kB. Compared are: the work on an image with
the bare JPEG decode, our loaders with timm's, the first batch after a resume with the first batch of an
epoch. The two sides take turns in one process; figures are medians over the rounds. Run nothing else
meanwhile."""

EXAMPLES = """\
  # everything; timm's RandAugment needs Pillow 12, which make installs in a folder of its own
  make bench-data
  # without timm, on your own images
  hornet-data bench --without-timm --images /data/imagenet"""

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
    from hornet_train.bench.data_pipeline import Ratio, measure
    from hornet_train.bench.pictures import make_pictures
    from hornet_train.track.console import ConsoleSink
    from hornet_train.track.durable_files import write_json

    import_timm()
    console = ConsoleSink(1, 1, interactive=False)

    def results(root: Path) -> list[Ratio]:
        return measure(
            root,
            workers=options.workers,
            rounds=options.rounds,
            against_timm=not options.without_timm,
            say=console.say,
        )

    if options.images is not None:
        found = results(options.images.expanduser())
    else:
        with tempfile.TemporaryDirectory(prefix="hornet-bench-") as folder:
            console.say(f"generating {_FILES:,} JPEGs")
            make_pictures(Path(folder), different=_DIFFERENT, files=_FILES)
            found = results(Path(folder))
    columns = ("compared", "ours", "other", "unit", "ratio", "from", "to")
    rows = [
        (
            one.what,
            *(f"{value:.1f}" for value in (one.ours, one.other)),
            one.unit,
            *(f"{value:.2f}" for value in (one.ratio, one.least, one.most)),
        )
        for one in found
    ]
    console.table(f"{options.workers} workers, medians of {options.rounds} rounds", columns, rows)
    if options.json is not None:
        try:
            write_json(options.json.expanduser(), [one.as_json() for one in found])
        except OSError as error:
            raise ConfigError(f"--json={options.json} cannot be written ({error.strerror})") from error
