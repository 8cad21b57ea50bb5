"""`hornet-data bench`: how fast images come."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from hornet_train.cli.flags import Parser, add_workers, whole
from hornet_train.errors import ConfigError

DESCRIPTION = """\
Measures the data pipeline on JPEGs of 500 x 375 pixels and 75 kB: a training image against the bare
decode, the loaders against timm's, the first batch after a resume against that of a start. Sides take
turns in one process; medians over the rounds. Let nothing else run meanwhile."""

EXAMPLES = """\
  # everything; timm's RandAugment needs Pillow 12, which make fetches beside the installed one
  make bench-data
  # without timm, on the images of one's own disk
  hornet-data bench --without-timm --images /data/imagenet"""

_FILES = 1600
_DIFFERENT = 400


def parser() -> Parser:
    """The flags."""
    made = Parser("hornet-data bench", DESCRIPTION, EXAMPLES)
    made.add_argument(
        "--images",
        type=Path,
        metavar="ROOT",
        help=f"a folder with train/<class>/, of which {_FILES:,} are read (default: pictures are made)",
    )
    made.add_argument("--rounds", type=whole(1), default=5, metavar="N", help="of each side (default: 5)")
    made.add_argument("--without-timm", action="store_true", help="leave the comparison with timm out")
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    add_workers(made)
    return made


def run(options: argparse.Namespace) -> None:
    """Measure and tell.

    Raises:
        DataError: there are no images, or timm cannot run here.
        ConfigError: the figures cannot be written where they should.
    """
    from hornet_train._timm import import_timm
    from hornet_train.bench.data import Ratio, measure
    from hornet_train.bench.pictures import make_pictures
    from hornet_train.track.console import ConsoleSink
    from hornet_train.track.files import write_json

    if options.json is not None and not options.json.expanduser().parent.is_dir():
        raise ConfigError(f"--json={options.json}: there is no folder {options.json.parent}; make it first")
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
            console.say(f"making {_FILES:,} JPEGs")
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
