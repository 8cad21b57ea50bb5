"""`hornet-predict`: what a checkpoint's model says of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

from hornet_train.cli.command import run_command
from hornet_train.cli.flags import Parser, factors, keys_and_pictures, share, whole_number
from hornet_train.library import predict
from hornet_train.prediction.wanted import FORMATS, HEATMAPS, PicturesAsked, Prediction
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
  hornet-predict checkpoint=runs/objects street/ --threshold 0.5 --out found.json"""


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
        default=HEATMAPS[0],
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


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script."""
    run_command(_work, parser().questions, arguments)


def _work(arguments: list[str]) -> None:
    options = parser().read(arguments)
    keys, pictures = keys_and_pictures(options.what)
    wanted = Prediction(
        asked=Asked(options.top, options.threshold, options.flip, options.scales, options.crops),
        form=options.format,
        out=options.out,
        overwrite=options.overwrite,
        drawn=PicturesAsked(
            options.masks, options.overlays, options.heatmaps, options.heatmap_method, options.sheet
        ),
        features=options.features,
    )
    predict(keys, pictures, wanted, quiet=options.quiet)


if __name__ == "__main__":
    main()
