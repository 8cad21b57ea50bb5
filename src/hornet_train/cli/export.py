"""`hornet-export`: a trained model for other programs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

from hornet_train.cli.command import run_command
from hornet_train.cli.flags import Parser, keys_and_pictures, whole_number
from hornet_train.export.export_wanted import FORMATS, OPSETS, Export
from hornet_train.images.size import times
from hornet_train.library import export_model

DESCRIPTION = """\
Writes the model of a checkpoint for other programs. What was written is run and compared with the model
before it gets its name: on the pictures that are given, or on noise. Preprocessing, names of classes and
where the weights are from travel with it.

Keys are those of hornet-eval: checkpoint=, weights=, data.image_size=, ..."""

EXAMPLES = """\
  hornet-export checkpoint=runs/photos --format onnx --out photos.onnx holiday/
  hornet-export checkpoint=runs/photos --format onnx --int8 --calibrate train/ --out small.onnx holiday/
  hornet-export checkpoint=hornet_tiny_gf.pth data=imagenet data.image_size=384 --format onnx --out tiny.onnx
  hornet-export checkpoint=runs/scenes --format openvino --out scenes.xml
  hornet-export checkpoint=runs/photos --format huggingface --license mit --out photos-hornet"""


def parser() -> Parser:
    """The flags of the command."""
    made = Parser("hornet-export", DESCRIPTION, EXAMPLES)
    made.add_argument(
        "what",
        metavar="key=value | PICTURE",
        nargs="*",
        help="checkpoint=..., other keys, and pictures to compare on (at most 64 are taken)",
    )
    about = "; ".join(f"{name}: {facts.about}" for name, facts in FORMATS.items())
    made.add_argument("--format", required=True, metavar="NAME", help=about)
    made.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="the file, or for huggingface the folder"
    )
    made.add_argument("--overwrite", action="store_true", help="replace it if it exists")
    first, last = OPSETS
    made.add_argument(
        "--opset",
        type=whole_number(1),
        default=Export.opset,
        metavar="N",
        help=f"version of ONNX's operators, {first} to {last} (default: {Export.opset})",
    )
    made.add_argument(
        "--any-size",
        action="store_true",
        help="take images of any height and width, too; not for GF, whose filters are for images of one size",
    )
    made.add_argument("--half", action="store_true", help="ONNX in float16: half the size")
    made.add_argument(
        "--int8", action="store_true", help="ONNX in integers of 8 bits: a quarter to a third of the size"
    )
    made.add_argument(
        "--calibrate",
        action="append",
        default=[],
        metavar="PICTURES",
        help="for --int8: a folder, pattern or list of pictures, other ones than those to compare on",
    )
    made.add_argument("--license", metavar="NAME", help="of the weights, such as mit; travels with them")
    return made


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script."""
    run_command(_work, parser().questions, arguments)


def _work(arguments: list[str]) -> None:
    options = parser().read(arguments)
    keys, pictures = keys_and_pictures(options.what)
    wanted = Export(
        form=options.format,
        out=options.out,
        overwrite=options.overwrite,
        opset=options.opset,
        any_size=options.any_size,
        half=options.half,
        int8=options.int8,
        licence=options.license,
    )
    done = export_model(keys, wanted, pictures, options.calibrate)
    for note in done.notes:
        sys.stderr.write(f"{note}\n")
    found = done.comparison
    kind = "picture" if done.on_pictures else "image of noise"
    where = "" if done.size is None else f" for images of {times(done.size)}"
    objects = "" if found.objects is None else f", {found.objects} objects of a score of 0.3 or more"
    told = ("of the largest output", "most probable class")
    if found.objects is not None:
        told = ("of scores, masks, and boxes by the longer side", "objects")
    sys.stdout.write(
        f"{done.out}: {done.megabytes:.1f} MB{where}\n"
        f"  compared on {found.images} {kind}{'s' * (found.images > 1 and done.on_pictures)}{objects}\n"
        f"  largest difference: {found.difference:.1e} {told[0]}\n"
        f"  same {told[1]}: {found.same_class:.2%}\n"
        f"  speed: {found.speed:.2f} times that of the model here, {found.batch} at once\n"
    )


if __name__ == "__main__":
    main()
