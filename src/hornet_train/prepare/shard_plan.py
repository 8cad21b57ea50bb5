"""Decide once which samples go into which shard."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from hornet_train.data.address import epoch_order
from hornet_train.data.sources.listing import check_folder, preview
from hornet_train.data.sources.source import sha256_of
from hornet_train.errors import ConfigError, DataError, SampleError
from hornet_train.prepare.decode_split import decode_all
from hornet_train.prepare.examine_images import ImageStatistics
from hornet_train.prepare.shard_files import Encoding, Shard, measure_images
from hornet_train.prepare.shard_folder import ShardFolder
from hornet_train.prepare.shard_formats import EXTENSIONS, Format
from hornet_train.prepare.split_layout import SplitLayout, list_split
from hornet_train.prepare.watched_workers import Lost, run_watched
from hornet_train.tasks.classification.sources import FlatSource, imagenet_wnids

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


def list_usable_split(folder: Path, name: str, labels: Path | None = None) -> SplitLayout:
    """List a split by the rules of `FolderSource`, and refuse one with faults.

    Args:
        folder: of the split.
        name: of the split.
        labels: the labels file of ImageNet's loose validation images, instead of class folders (see
            `FlatSource`).

    Raises:
        DataError: the split has faults.
        ConfigError: a labels file for a split with class folders.
    """
    check_folder(folder, f"set --split to a folder in {folder.parent}")
    layout = list_split(folder, name)
    if labels is not None:
        if not layout.flat:
            raise ConfigError(
                f"--val-labels={labels}: {folder} has class folders, which are its labels already"
            )
        layout.use_labels_of(FlatSource(folder, labels, imagenet_wnids()))
        return layout
    faults = []
    if not layout.classes:
        loose = "; --val-labels names the labels of ImageNet's loose val images" if layout.flat else ""
        faults.append(f"it has no images in class folders{loose}")
    if layout.empty:
        faults.append(f"class folders without an image ({preview(layout.empty)})")
    if layout.unlisted:
        faults.append(f"folders that cannot be listed: {preview(layout.unlisted)}")
    if not_utf8 := [name for name in layout.classes if not _is_utf8(name)]:
        faults.append(f"class names that are not UTF-8: {preview([repr(name) for name in not_utf8])}")
    if faults:
        raise DataError(f"{folder}: {'; '.join(faults)}; hornet-data check reports more")
    return layout


def _is_utf8(name: str) -> bool:
    """Whether a file name was valid UTF-8: Python decodes other bytes to lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def make_plan(
    layout: SplitLayout, shard_folder: ShardFolder, arguments: Arguments, *, workers: int, timeout: float
) -> dict[str, Any]:
    """The plan of an earlier start, or a new one: the number of shards, and which images are left out."""
    labels = np.asarray(layout.labels, dtype=np.int32)
    source = sha256_of(layout.paths.block(), labels, repr(layout.classes).encode())
    wanted = {"arguments": asdict(arguments), "source": source}
    plan = shard_folder.load_plan(wanted)
    if plan is not None:
        return plan
    skipped: list[tuple[int, str]] = []
    if arguments.on_bad == "skip":  # found before planning, so that all shards have equal numbers of samples
        decode_all(
            layout,
            lambda index, reason: skipped.append((index, reason)),
            ImageStatistics(len(layout.paths)),
            "looking for damaged images",
            workers=workers,
            timeout=timeout,
        )
    plan = {**wanted, "skipped": sorted(skipped)}
    order = _order(layout, arguments, plan)
    if not len(order):
        raise DataError(f"every image in {layout.folder} is damaged")
    count = arguments.shards
    if count is None:
        count = _shard_count(layout, arguments, order, workers=workers, timeout=timeout)
    if count > len(order):
        raise ConfigError(f"--shards {count}: there are only {len(order):,} images")
    plan["shards"] = count
    shard_folder.save_plan(plan)
    return plan


def _order(layout: SplitLayout, arguments: Arguments, plan: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The samples in the order of the shards: a permutation given by the seed and their number."""
    usable = np.delete(np.arange(len(layout.paths)), [index for index, _ in plan["skipped"]])
    permuted: np.ndarray[Any, Any] = usable[epoch_order(arguments.seed, 0, len(usable))]
    return permuted


def _shard_count(
    layout: SplitLayout, arguments: Arguments, order: np.ndarray[Any, Any], *, workers: int, timeout: float
) -> int:
    """The number of shards of about `shard_size` bytes, estimated from the first images in order."""
    assert arguments.shard_size is not None
    paths = [os.fspath(layout.locate(index)) for index in order[:_SIZE_SAMPLE]]
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
        self, layout: SplitLayout, shard_folder: ShardFolder, arguments: Arguments, plan: dict[str, Any]
    ) -> None:
        self._layout, self._shard_folder, self._arguments = layout, shard_folder, arguments
        self._order = _order(layout, arguments, plan)
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
        layout, arguments, file = self._layout, self._arguments, self.file_name(number)
        keys = self._order[self._first_sample(number) : self._first_sample(number + 1)].tolist()
        return Shard(
            file=os.fspath(self._shard_folder.out / file),
            partial_file=os.fspath(self._shard_folder.work / f"{file}.part"),
            format=arguments.format,
            keys=tuple(keys),
            paths=tuple(os.fspath(layout.locate(key)) for key in keys),
            names=tuple(layout.paths[key].decode("utf-8", "replace") for key in keys),
            labels=tuple(layout.labels[key] for key in keys),
            classes=layout.classes,
            encoding=arguments.encoding,
        )

    def _first_sample(self, number: int) -> int:
        """The position in order of the first sample of shard `number`."""
        return self.samples * number // self._count
