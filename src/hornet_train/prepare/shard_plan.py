"""Decide once which samples go into which shard."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from hornet_train.data.address import epoch_order
from hornet_train.errors import ConfigError, DataError, SampleError
from hornet_train.file_names import as_text
from hornet_train.prepare.decode_split import decode_all
from hornet_train.prepare.examine_images import ImageStatistics
from hornet_train.prepare.shard_files import Encoding, Shard, measure_images
from hornet_train.prepare.shard_folder import ShardFolder
from hornet_train.prepare.shard_formats import EXTENSIONS, Format
from hornet_train.prepare.watched_workers import Lost, run_watched
from hornet_train.tasks.stored_files import FilesToPack

_SIZE_SAMPLE = 256  # images from which the mean size is estimated, for the number of shards
_IMAGES_PER_TASK = 16


@dataclass(frozen=True)
class Arguments:
    """The arguments that determine the content of shards; all shards in a folder have the same.

    Attributes:
        split: the name of its folder in the root.
        format: of the shards.
        shard_size: approximate size of a shard in bytes; None if `shards` is given.
        shards: number of shards; None if `shard_size` is given.
        shorter_side: in pixels; images with a longer shorter side are scaled down to it. None: no image is
            scaled.
        quality: of the JPEGs of images that are scaled down.
        seed: of the samples' order.
        on_bad: whether a damaged image is left out ("skip") or ends the packing ("error").
    """

    split: str
    format: Format
    shard_size: int | None
    shards: int | None
    shorter_side: int | None
    quality: int
    seed: int
    on_bad: Literal["skip", "error"]

    @property
    def encoding(self) -> Encoding:
        """How images are stored."""
        return Encoding(self.shorter_side, self.quality)


def make_plan(
    files: FilesToPack, shard_folder: ShardFolder, arguments: Arguments, *, workers: int, timeout: float
) -> dict[str, Any]:
    """The plan of an earlier start, or a new one: the number of shards, and which images are left out."""
    wanted = {"arguments": asdict(arguments), "source": files.fingerprint}
    plan = shard_folder.load_plan(wanted)
    if plan is not None:
        return plan
    skipped: list[tuple[int, str]] = []
    if arguments.on_bad == "skip":  # found before planning, so that all shards have equal numbers of samples
        decode_all(
            files,
            lambda index, reason: skipped.append((index, reason)),
            ImageStatistics(len(files.paths)),
            "looking for damaged images",
            workers=workers,
            timeout=timeout,
        )
    plan = {**wanted, "skipped": sorted(skipped)}
    order = _order(files, arguments, plan)
    if not len(order):
        raise DataError(f"every image in {files.folder} is damaged")
    count = arguments.shards
    if count is None:
        count = _shard_count(files, arguments, order, workers=workers, timeout=timeout)
    if count > len(order):
        raise ConfigError(f"--shards {count}: there are only {len(order):,} images")
    plan["shards"] = count
    shard_folder.save_plan(plan)
    return plan


def _order(files: FilesToPack, arguments: Arguments, plan: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The samples in the order of the shards: a permutation given by the seed and their number."""
    usable = np.delete(np.arange(len(files.paths)), [index for index, _ in plan["skipped"]])
    permuted: np.ndarray[Any, Any] = usable[epoch_order(arguments.seed, 0, len(usable))]
    return permuted


def _shard_count(
    files: FilesToPack, arguments: Arguments, order: np.ndarray[Any, Any], *, workers: int, timeout: float
) -> int:
    """The number of shards of about `shard_size` bytes, estimated from the first images in order."""
    assert arguments.shard_size is not None
    paths = [os.fspath(files.locate(index)) for index in order[:_SIZE_SAMPLE]]
    tasks = [
        (arguments.encoding, tuple(paths[i : i + _IMAGES_PER_TASK]))
        for i in range(0, len(paths), _IMAGES_PER_TASK)
    ]
    total = 0
    for outcome in run_watched(
        measure_images, tasks, workers=workers, timeout=timeout, on_progress=lambda _: None
    ):
        if isinstance(outcome, Lost):
            raise SampleError(outcome.task[1][outcome.item], outcome.reason, "look at the file, or remove it")
        total += outcome.result
    mean = total / len(paths)
    return min(max(1, math.ceil(mean * len(order) / arguments.shard_size)), len(order))


class PlannedShards:
    """The shards of a plan, whose numbers of samples differ by at most one.

    Each is created on demand, so that the paths of millions of samples are never in memory all at once.
    """

    def __init__(
        self, files: FilesToPack, shard_folder: ShardFolder, arguments: Arguments, plan: dict[str, Any]
    ) -> None:
        self._files, self._shard_folder, self._arguments = files, shard_folder, arguments
        self._order = _order(files, arguments, plan)
        self._count: int = plan["shards"]
        self.samples = len(self._order)

    def __len__(self) -> int:
        return self._count

    def file_name(self, number: int) -> str:
        """`train-00000-of-00123.parquet`."""
        arguments = self._arguments
        return f"{arguments.split}-{number:05d}-of-{self._count:05d}.{EXTENSIONS[arguments.format]}"

    def sample_count(self, number: int) -> int:
        """The number of samples in shard `number`."""
        return self._first_sample(number + 1) - self._first_sample(number)

    def shard(self, number: int) -> Shard:
        """Shard `number`, 0 <= number < len."""
        files, arguments, file = self._files, self._arguments, self.file_name(number)
        keys = self._order[self._first_sample(number) : self._first_sample(number + 1)].tolist()
        return Shard(
            file=os.fspath(self._shard_folder.out / file),
            partial_file=os.fspath(self._shard_folder.work / f"{file}.part"),
            format=arguments.format,
            keys=tuple(keys),
            paths=tuple(os.fspath(files.locate(key)) for key in keys),
            names=tuple(as_text(os.fsdecode(files.paths[key])) for key in keys),
            fields=files.fields,
            values=tuple(files.values(key) for key in keys),
            encoding=arguments.encoding,
        )

    def _first_sample(self, number: int) -> int:
        """The position in order of the first sample of shard `number`."""
        return self.samples * number // self._count
