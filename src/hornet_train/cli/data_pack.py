"""`hornet-data pack`: pack class folders into parquet or webdataset shards."""

from __future__ import annotations

import argparse
from pathlib import Path

from hornet_train.cli.flags import Parser, add_task, add_workers, names, positive, size, whole_number
from hornet_train.errors import ConfigError

DESCRIPTION = """\
Packs ROOT/<split>/<class>/ into shards, in a random order given by --seed. The sizes of any two shards
differ by at most one sample. Shards are OUT/<split>-00000-of-00123.parquet (columns image and label, as
Hugging Face's datasets reads and writes them) or .tar (KEY.jpg and KEY.cls, as webdataset reads them).
OUT/<split>.index.json lists the classes, and each shard's samples, bytes and SHA-256.

Images are copied byte for byte, unless --shorter-side makes them smaller. Every image is decoded once as a
check, and every shard is read back. If the command is killed, run it again: finished shards are reused."""

EXAMPLES = """\
  # ImageNet's training images for Hugging Face's datasets
  hornet-data pack /data/imagenet /data/imagenet-parquet --format parquet
  # 256 tar shards of smaller images; they divide evenly among 8 GPUs with 8 workers each
  hornet-data pack /data/imagenet /data/imagenet-tar --format webdataset --shorter-side 512 --shards 256
  # the validation images, from class folders or from one flat folder
  hornet-data pack /data/imagenet /data/imagenet-parquet --format parquet --split val
  hornet-data pack /data/imagenet /data/imagenet-parquet --format parquet --split val --val-labels val.txt"""

_SHARD_SIZE = 512 * 10**6
_QUALITY = 95


def parser() -> Parser:
    """The flags of the command."""
    made = Parser("hornet-data pack", DESCRIPTION, EXAMPLES)
    made.add_argument("root", metavar="ROOT", type=Path, help="the folder that holds train/ and val/")
    made.add_argument(
        "out", metavar="OUT", type=Path, help="the folder for the shards; created if it does not exist"
    )
    made.add_argument("--format", choices=("parquet", "webdataset"), required=True, help="kind of shards")
    made.add_argument("--split", type=_split, default="train", metavar="NAME", help="default: train")
    made.add_argument(
        "--val-labels",
        type=Path,
        metavar="FILE",
        help="the labels of ImageNet's flat folder of validation images, as for data.val_labels=",
    )
    shards = made.add_mutually_exclusive_group()
    shards.add_argument(
        "--shard-size", type=size, metavar="SIZE", help="approximate size of a shard (default: 512MB)"
    )
    shards.add_argument(
        "--shards", type=whole_number(1, 99_999), metavar="N", help="number of shards, instead of a size"
    )
    made.add_argument(
        "--shorter-side",
        type=whole_number(1),
        metavar="PIXELS",
        help="shrink images whose shorter side is longer than this (default: leave them as they are)",
    )
    made.add_argument(
        "--quality",
        type=whole_number(1, 100),
        metavar="Q",
        help=f"JPEG quality of the images that --shorter-side shrinks (default: {_QUALITY})",
    )
    made.add_argument(
        "--seed", type=whole_number(0, 2**63 - 1), default=0, help="seed of the random order (default: 0)"
    )
    made.add_argument(
        "--on-bad",
        choices=("error", "skip"),
        default="error",
        help="a damaged image: error stops; skip leaves it out, lists it in OUT/<split>.skipped.csv, and "
        "decodes every image once more, before images are assigned to shards (default: error)",
    )
    made.add_argument(
        "--timeout",
        type=positive,
        default=60.0,
        metavar="SECONDS",
        help="an image that takes longer counts as damaged (default: 60)",
    )
    add_task(made)
    add_workers(made)
    return made


def run(options: argparse.Namespace) -> None:
    """Pack, and print the progress.

    Raises:
        DataError: the images cannot be used, or a shard cannot be written.
        ConfigError: the flags exclude each other, or a folder cannot be used.
    """
    from hornet_train.prepare.pack_split import pack
    from hornet_train.prepare.shard_plan import Arguments
    from hornet_train.tasks.table import files_of
    from hornet_train.track.console import ConsoleSink

    if options.quality is not None and options.shorter_side is None:
        raise ConfigError("--quality applies to the images that --shorter-side shrinks: set that too")
    shard_size = options.shard_size or (None if options.shards else _SHARD_SIZE)
    pack(
        files_of(options.task),
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
    """An argparse type: one folder name."""
    found = names(text)
    if len(found) != 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give one split at a time")
    return found[0]
