"""`hornet-data pack`: class folders into parquet or webdataset shards."""

from __future__ import annotations

import argparse
from pathlib import Path

from hornet_train.cli.flags import Parser, add_workers, names, positive, size, whole
from hornet_train.errors import ConfigError

DESCRIPTION = """\
Packs ROOT/<split>/<class>/ into shards, in a random order that the seed decides, each with the same
number of samples within one: OUT/<split>-00000-of-00123.parquet (image, label, as Hugging Face's
datasets reads and writes them) or .tar (KEY.jpg and KEY.cls, as webdataset reads them). Beside them
OUT/<split>.index.json tells the classes and each shard's samples, bytes and SHA-256.

Images keep their bytes, unless --shorter-side makes them smaller. Every image is decoded once, every
shard read back. Killed anywhere, the same command goes on: finished shards are kept."""

EXAMPLES = """\
  # ImageNet's training images for Hugging Face's datasets
  hornet-data pack /data/imagenet /data/imagenet-parquet --format parquet
  # tar shards, images made smaller, 256 shards: can be shared out among 8 GPUs with 8 workers each
  hornet-data pack /data/imagenet /data/imagenet-tar --format webdataset --shorter-side 512 --shards 256
  # the validation images, from class folders or loose
  hornet-data pack /data/imagenet /data/imagenet-parquet --format parquet --split val
  hornet-data pack /data/imagenet /data/imagenet-parquet --format parquet --split val --val-labels val.txt"""

_SHARD_SIZE = 512 * 10**6
_QUALITY = 95


def parser() -> Parser:
    """The flags."""
    made = Parser("hornet-data pack", DESCRIPTION, EXAMPLES)
    made.add_argument("root", metavar="ROOT", type=Path, help="the folder that holds train/ and val/")
    made.add_argument("out", metavar="OUT", type=Path, help="the folder for the shards; made if need be")
    made.add_argument("--format", choices=("parquet", "webdataset"), required=True, help="kind of shards")
    made.add_argument("--split", type=_split, default="train", metavar="NAME", help="default: train")
    made.add_argument(
        "--val-labels",
        type=Path,
        metavar="FILE",
        help="the labels of ImageNet's loose validation images, as data.val_labels= takes them",
    )
    shards = made.add_mutually_exclusive_group()
    shards.add_argument("--shard-size", type=size, metavar="SIZE", help="of a shard, about (default: 512MB)")
    shards.add_argument("--shards", type=whole(1, 99_999), metavar="N", help="exactly so many instead")
    made.add_argument(
        "--shorter-side",
        type=whole(1),
        metavar="PIXELS",
        help="make images with a longer shorter side smaller (default: leave them as they are)",
    )
    made.add_argument(
        "--quality",
        type=whole(1, 100),
        metavar="Q",
        help=f"of the JPEGs that --shorter-side makes (default: {_QUALITY})",
    )
    made.add_argument("--seed", type=whole(0, 2**63 - 1), default=0, help="of the order (default: 0)")
    made.add_argument(
        "--on-bad",
        choices=("error", "skip"),
        default="error",
        help="a damaged image: stop, or leave it out and list it in OUT/<split>.skipped.csv; skip decodes "
        "every image once more, before shards are cut (default: error)",
    )
    made.add_argument(
        "--timeout",
        type=positive,
        default=60.0,
        metavar="SECONDS",
        help="an image that takes longer counts as damaged (default: 60)",
    )
    add_workers(made)
    return made


def run(options: argparse.Namespace) -> None:
    """Pack and tell.

    Raises:
        DataError: the images cannot be used, or a shard cannot be written.
        ConfigError: flags that do not go together, or a folder that cannot be used.
    """
    from hornet_train.prepare.pack_split import pack
    from hornet_train.prepare.shard_plan import Arguments
    from hornet_train.track.console import ConsoleSink

    if options.quality is not None and options.shorter_side is None:
        raise ConfigError("--quality is of the images that --shorter-side makes smaller: set that too")
    shard_size = options.shard_size or (None if options.shards else _SHARD_SIZE)
    pack(
        options.root.expanduser(),
        options.out.expanduser(),
        Arguments(
            split=options.split,
            format=options.format,
            shard_size=shard_size,
            shards=options.shards,
            shorter_side=options.shorter_side,
            quality=options.quality or _QUALITY,
            seed=options.seed,
            on_bad=options.on_bad,
        ),
        labels=options.val_labels,
        workers=options.workers,
        timeout=options.timeout,
        say=ConsoleSink(1, 1, interactive=False).say,
    )


def _split(text: str) -> str:
    """A type for argparse: one folder name."""
    found = names(text)
    if len(found) != 1:
        raise argparse.ArgumentTypeError(f"{text!r}: one split at a time")
    return found[0]
