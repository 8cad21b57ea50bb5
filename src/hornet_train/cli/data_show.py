"""`hornet-data show`: a picture of the training images as the model sees them."""

from __future__ import annotations

import argparse
from pathlib import Path

from hornet_train.cli.flags import Parser, whole_number
from hornet_train.errors import ConfigError
from hornet_train.track.output_file import check_output

DESCRIPTION = """\
Draws a batch of training images, augmented, erased and mixed as the model would see them, with their
classes and the share of each. Takes the keys of hornet-train, so that you see what would be trained on."""

EXAMPLES = """\
  # ImageNet under the published augmentation
  hornet-data show data=imagenet data.root=/data/imagenet
  # 16 of your own images, in epoch 30 of a run with progressive resizing
  hornet-data show data=folder data.root=photos augment.start_size=128 --images 16 --epoch 30"""


def parser() -> Parser:
    """The flags of the command."""
    made = Parser("hornet-data show", DESCRIPTION, EXAMPLES)
    made.add_argument(
        "overrides", metavar="key=value", nargs="*", help="keys and groups, as for hornet-train"
    )
    made.add_argument(
        "--out", type=Path, default=Path("show.png"), metavar="FILE", help="a PNG (default: show.png)"
    )
    made.add_argument(
        "--images", type=whole_number(2, 256), default=32, metavar="N", help="how many (default: 32)"
    )
    made.add_argument(
        "--epoch",
        type=whole_number(0, 1_000_000),
        default=0,
        metavar="N",
        help="show its first batch (default: 0)",
    )
    return made


def run(options: argparse.Namespace) -> None:
    """Draw the images into a PNG, and print its path.

    Raises:
        UserError: the config or the data are invalid, or the picture cannot be written.
    """
    from hornet_train._timm import import_timm
    from hornet_train.config.compose import Composed
    from hornet_train.config.compose_train import compose_train
    from hornet_train.config.schema import Config
    from hornet_train.tasks.table import NAMES, find, kit_of

    out = options.out.expanduser()
    check_output(f"--out={out}", out, ".png")

    def compose(more: list[str]) -> Composed[Config]:
        return compose_train([*options.overrides, *more], find=find, names=NAMES)

    composed = compose([])
    assert composed.task is not None
    import_timm()
    from hornet_train.run.follow_model import follow_model

    kit = kit_of(composed.task)
    composed = follow_model(kit, composed, compose)
    from hornet_train.report.contact_sheet import draw_sheet
    from hornet_train.track.console import ConsoleSink

    drawn = kit.draw(composed.config, images=options.images, epoch=options.epoch)
    console = ConsoleSink(1, 1, interactive=False)
    for note in composed.notes:
        console.say(note)
    for bad in drawn.bad:
        console.warn(f"another image stands in for {bad.where}: {bad.reason}")
    try:
        draw_sheet(drawn.images, drawn.captions, out, drawn.title)
    except OSError as error:
        raise ConfigError(
            f"--out={out} cannot be written ({error.strerror}); choose another place"
        ) from error
    console.say(f"{len(drawn.captions)} training images: {out}")
