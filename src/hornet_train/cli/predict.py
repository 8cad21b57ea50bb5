"""`hornet-predict`: what a checkpoint's model says of pictures."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import Any, NoReturn

from hornet_train.cli.command import run_command
from hornet_train.cli.flags import Parser, factors, keys_and_pictures, positive, share, size, whole_number
from hornet_train.errors import ConfigError
from hornet_train.images.formats import MAX_PIXELS
from hornet_train.library import predict, serve
from hornet_train.prediction.wanted import FORMATS, HEATMAPS, PicturesAsked, Prediction
from hornet_train.serving.service_wanted import Limits, Service
from hornet_train.tasks.asked import Asked

DESCRIPTION = """\
Asks the model of a checkpoint about pictures. Classes, preprocessing and precision are those of the
training. What is said of a picture depends on the task: its most probable classes; the class of every
pixel; boxes of objects and their masks.

Pictures are given as files, folders (searched to the bottom), patterns in quotes, lists (.txt, or .csv and
.tsv with a column "path"), or - for standard input: one picture, or paths. A picture that cannot be read is
reported in its place and counted. Keys are those of hornet-eval: checkpoint=, weights=, batch_size=,
precision=, data.workers=, dist.device=, ... (a file with = in its name: ./a=b.jpg).

Answers go to standard output as a table, or to --out; notes and progress go to standard error. Several
processes share the work: torchrun --nproc_per_node=8 -m hornet_train.cli.predict ..."""

EXAMPLES = """\
  hornet-predict checkpoint=runs/photos cat.jpg
  hornet-predict checkpoint=runs/photos holiday/ --out answers.csv --sheet answers.png
  hornet-predict checkpoint=hornet_tiny_gf.pth data=imagenet '*.jpg' --top 1 --format jsonl
  find /data -name '*.png' | hornet-predict checkpoint=runs/photos - --format csv
  hornet-predict checkpoint=runs/scenes street/ --masks masks --overlays overlays
  hornet-predict checkpoint=runs/objects street/ --threshold 0.5 --out found.json
  hornet-predict checkpoint=runs/photos --serve"""


_OF_FILES = (
    "format",
    "out",
    "overwrite",
    "masks",
    "overlays",
    "heatmaps",
    "heatmap_method",
    "sheet",
    "features",
)
_OF_SERVICE = (
    "host",
    "port",
    "allow_host",
    "max_body",
    "max_pixels",
    "max_seconds",
    "max_requests",
)


def parser() -> Parser:
    """The flags of the command."""
    made = Parser("hornet-predict", DESCRIPTION, EXAMPLES)
    made.add_argument(
        "what", metavar="key=value | PICTURE", nargs="*", help="checkpoint=..., other keys, and pictures"
    )
    made.add_argument(
        "--format",
        choices=FORMATS,
        help="of the answers: a table (default), JSON lines, CSV, or for detection COCO's JSON; with --out "
        "its suffix says it: .txt, .jsonl, .csv, .json",
    )
    made.add_argument("--out", type=Path, metavar="FILE", help="write the answers there")
    made.add_argument("--overwrite", action="store_true", help="replace files that exist")
    made.add_argument(
        "--top", type=whole_number(1), metavar="N", help="classes of an answer (classification; default: 5)"
    )
    made.add_argument(
        "--threshold",
        type=share,
        metavar="P",
        help="leave out classes that are less probable (default: 0), or objects of a lower score (default: "
        "none; 0.3 where people look: table, masks, overlays, sheet)",
    )
    made.add_argument(
        "--flip",
        action="store_true",
        help="ask about the mirror image of each picture, too, and put both answers together",
    )
    made.add_argument(
        "--scales",
        type=factors,
        metavar="F,F",
        help="ask about each picture at several sizes, such as 0.75,1,1.25 times the usual one",
    )
    made.add_argument(
        "--crops",
        type=int,
        choices=(1, 5),
        help="ask about the middle of each picture, or about its corners, too (classification)",
    )
    _add_files(made)
    made.add_argument("--quiet", action="store_true", help="print answers and warnings alone")
    _add_service(made)
    return made


def _add_files(made: Parser) -> None:
    """The flags of what is written for each picture."""
    made.add_argument(
        "--masks",
        type=Path,
        metavar="DIR",
        help="write a PNG for each picture: the number of each pixel's class (segmentation), or of its "
        "object (detection)",
    )
    made.add_argument(
        "--overlays", type=Path, metavar="DIR", help="write each picture with its masks or boxes drawn on it"
    )
    made.add_argument(
        "--heatmaps",
        type=Path,
        metavar="DIR",
        help="write what the model sees of each picture, under the heat of the most probable class "
        "(classification)",
    )
    made.add_argument(
        "--heatmap-method",
        choices=HEATMAPS,
        help="layercam: by the gradients of the class (default); eigencam: by the maps alone",
    )
    made.add_argument(
        "--sheet", type=Path, metavar="FILE", help="write a PNG of the first pictures with their answers"
    )
    made.add_argument(
        "--features",
        type=Path,
        metavar="FILE",
        help="write the vector from which the model concludes for each picture, a .npy or .parquet file "
        "(classification)",
    )


def _add_service(made: Parser) -> None:
    """The flags of a service."""
    usual, most = Service(), Limits()
    made.add_argument(
        "--serve",
        action="store_true",
        help="answer over HTTP instead: a page where pictures are dropped, and POST /predict for programs",
    )
    made.add_argument("--host", metavar="ADDRESS", help=f"to listen on, with --serve (default: {usual.host})")
    made.add_argument(
        "--port",
        type=whole_number(0, 65535),
        metavar="N",
        help=f"with --serve; 0: any that is free (default: {usual.port})",
    )
    made.add_argument(
        "--allow-host",
        action="append",
        metavar="NAME",
        help="let in requests that call this machine so, besides localhost (with --serve; may be repeated)",
    )
    made.add_argument(
        "--max-body",
        type=size,
        metavar="SIZE",
        help=f"bytes of a picture's file, at most, with --serve (default: {most.body // 10**6}MB)",
    )
    made.add_argument(
        "--max-pixels",
        type=whole_number(1, MAX_PIXELS),
        metavar="N",
        help=f"of a picture, with --serve (default: {most.pixels:,})",
    )
    made.add_argument(
        "--max-seconds",
        type=positive,
        metavar="S",
        help=f"from a request to its answer, with --serve (default: {most.seconds:g})",
    )
    made.add_argument(
        "--max-requests",
        type=whole_number(1),
        metavar="N",
        help=f"at a time, with --serve; more are told to ask again (default: {most.requests})",
    )


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script."""
    run_command(_work, parser().questions, arguments)


def _work(arguments: list[str]) -> None:
    options = parser().read(arguments)
    keys, pictures = keys_and_pictures(options.what)
    asked = Asked(options.top, options.threshold, options.flip, options.scales, options.crops)
    flags = {name: value for name, value in vars(options).items() if value not in (None, False)}
    if options.serve:
        if pictures:
            raise ConfigError([f"--serve answers what is sent to it: {pictures[0]} is no key=value"])
        _refuse(flags, _OF_FILES, "--serve writes no files, and answers in JSON")
        serve(keys, _service(options, asked), quiet=options.quiet)
        return
    _refuse(flags, _OF_SERVICE, "it is for --serve")
    wanted = Prediction(
        asked=asked,
        form=options.format,
        out=options.out,
        overwrite=options.overwrite,
        drawn=PicturesAsked(
            options.masks,
            options.overlays,
            options.heatmaps,
            options.heatmap_method or HEATMAPS[0],
            options.sheet,
        ),
        features=options.features,
    )
    predict(keys, pictures, wanted, quiet=options.quiet)


def _refuse(flags: Collection[str], unwanted: Collection[str], why: str) -> None:
    """Raises ConfigError for flags that would do nothing."""
    if found := [f"--{name.replace('_', '-')}" for name in flags if name in unwanted]:
        raise ConfigError([f"{', '.join(found)}: {why}"])


def _service(options: argparse.Namespace, asked: Asked) -> Service:
    """What the flags say of a service, and the defaults where they say nothing."""

    def given(**values: Any) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value is not None}

    limits = given(
        body=options.max_body,
        pixels=options.max_pixels,
        seconds=options.max_seconds,
        requests=options.max_requests,
    )
    names = tuple(options.allow_host or ())
    return Service(
        **given(host=options.host, port=options.port), names=names, limits=Limits(**limits), asked=asked
    )


if __name__ == "__main__":
    main()
