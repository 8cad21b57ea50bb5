"""Which samples go into which shard, decided once and then kept."""

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
from hornet_train.prepare.watched_workers import Lost, run_crew
from hornet_train.prepare.decode_split import decode_all
from hornet_train.prepare.examine_images import Tally
from hornet_train.prepare.shard_formats import EXTENSIONS, Format
from hornet_train.prepare.split_layout import SplitLayout, list_split
from hornet_train.prepare.shard_files import Encoding, Shard, measure
from hornet_train.prepare.shard_folder import Store
from hornet_train.tasks.classification.sources import FlatSource, imagenet_wnids

_PROBED = 256  # images whose bytes tell the mean, for the number of shards
_AT_ONCE = 16


@dataclass(frozen=True)
class Arguments:
    """What decides the content of shards; a folder holds shards of one set of them.

    Attributes:
        split: the folder in the root.
        format: of the shards.
        shard_size: bytes that a shard has, about; None where `shards` says how many.
        shards: how many; None where `shard_size` does.
        shorter_side: pixels; a longer shorter side is scaled down to it. None leaves all images as they are.
        quality: of the JPEGs that scaling makes.
        seed: of the samples' order.
        on_bad: whether a damaged image stops the packing or is left out.
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
        return Encoding(self.shorter_side, self.quality)


def usable_split(folder: Path, name: str, labels: Path | None = None) -> SplitLayout:
    """The listing of a split that has no faults. The rules are those of `FolderSource`.

    Args:
        folder: of the split.
        name: of the split.
        labels: of ImageNet's loose validation images, in place of class folders (see `FlatSource`).
    """
    check_folder(folder, f"set --split to a folder in {folder.parent}")
    layout = list_split(folder, name)
    if labels is not None:
        if not layout.flat:
            raise ConfigError(f"--val-labels={labels}: {folder} has class folders, which are its labels")
        layout.label_by(FlatSource(folder, labels, imagenet_wnids()))
        return layout
    faults = []
    if not layout.classes:
        loose = "; --val-labels names the labels of ImageNet's loose val images" if layout.flat else ""
        faults.append(f"it has no images in class folders{loose}")
    if layout.empty:
        faults.append(f"class folders without an image ({preview(layout.empty)})")
    if layout.unlisted:
        faults.append(f"folders that cannot be listed: {preview(layout.unlisted)}")
    if unspeakable := [name for name in layout.classes if not _is_text(name)]:
        faults.append(f"class names that are not UTF-8: {preview([repr(name) for name in unspeakable])}")
    if faults:
        raise DataError(f"{folder}: {'; '.join(faults)}; hornet-data check tells more")
    return layout


def _is_text(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def make_plan(
    layout: SplitLayout, store: Store, arguments: Arguments, *, workers: int, timeout: float
) -> dict[str, Any]:
    """What was planned before, or a new plan: how many shards, and which images are left out."""
    labels = np.asarray(layout.labels, dtype=np.int32)
    source = sha256_of(layout.paths.block(), labels, repr(layout.classes).encode())
    wanted = {"arguments": asdict(arguments), "source": source}
    plan = store.plan(wanted)
    if plan is not None:
        return plan
    skipped: list[tuple[int, str]] = []
    if arguments.on_bad == "skip":  # before shards are cut, so that these hold equal numbers of samples
        decode_all(
            layout,
            lambda index, reason: skipped.append((index, reason)),
            Tally(len(layout.paths)),
            "looking for damage",
            workers=workers,
            timeout=timeout,
        )
    plan = {**wanted, "skipped": sorted(skipped)}
    order = _order(layout, arguments, plan)
    if not len(order):
        raise DataError(f"every image in {layout.folder} is damaged")
    count = arguments.shards
    if count is None:
        count = _count_for(layout, arguments, order, workers=workers, timeout=timeout)
    if count > len(order):
        raise ConfigError(f"--shards {count}: there are {len(order):,} images only")
    plan["shards"] = count
    store.keep_plan(plan)
    return plan


def _order(layout: SplitLayout, arguments: Arguments, plan: dict[str, Any]) -> np.ndarray[Any, Any]:
    """The samples in the order of the shards: a permutation that the seed and their number decide."""
    kept = np.delete(np.arange(len(layout.paths)), [index for index, _ in plan["skipped"]])
    permuted: np.ndarray[Any, Any] = kept[epoch_order(arguments.seed, 0, len(kept))]
    return permuted


def _count_for(
    layout: SplitLayout, arguments: Arguments, order: np.ndarray[Any, Any], *, workers: int, timeout: float
) -> int:
    """How many shards of about the size that was asked for, by the first images in order."""
    assert arguments.shard_size is not None
    paths = [os.fspath(layout.locate(index)) for index in order[:_PROBED]]
    tasks = [(arguments.encoding, tuple(paths[i : i + _AT_ONCE])) for i in range(0, len(paths), _AT_ONCE)]
    total = 0
    for outcome in run_crew(measure, tasks, workers=workers, timeout=timeout, tick=lambda _: None):
        if isinstance(outcome, Lost):
            raise SampleError(outcome.task[1][outcome.item], outcome.reason, "look at it, or remove it")
        total += outcome.result
    mean = total / len(paths)
    return min(max(1, math.ceil(mean * len(order) / arguments.shard_size)), len(order))


class Shards:
    """The shards of a plan, each made when it is asked for: the paths of millions of samples are never all
    there as objects. Their numbers of samples are equal within one.
    """

    def __init__(self, layout: SplitLayout, store: Store, arguments: Arguments, plan: dict[str, Any]) -> None:
        self._layout, self._store, self._arguments = layout, store, arguments
        self._order = _order(layout, arguments, plan)
        self._count: int = plan["shards"]
        self.samples = len(self._order)

    def __len__(self) -> int:
        return self._count

    def file(self, number: int) -> str:
        """`train-00000-of-00123.parquet`."""
        made = self._arguments
        return f"{made.split}-{number:05d}-of-{self._count:05d}.{EXTENSIONS[made.format]}"

    def samples_of(self, number: int) -> int:
        return self._begin(number + 1) - self._begin(number)

    def shard(self, number: int) -> Shard:
        """Shard `number`, 0 <= number < len."""
        layout, made, file = self._layout, self._arguments, self.file(number)
        keys = self._order[self._begin(number) : self._begin(number + 1)].tolist()
        return Shard(
            file=os.fspath(self._store.out / file),
            beside=os.fspath(self._store.work / f"{file}.part"),
            format=made.format,
            keys=tuple(keys),
            paths=tuple(os.fspath(layout.locate(key)) for key in keys),
            names=tuple(layout.paths[key].decode("utf-8", "replace") for key in keys),
            labels=tuple(layout.labels[key] for key in keys),
            classes=layout.classes,
            encoding=made.encoding,
        )

    def _begin(self, number: int) -> int:
        return self.samples * number // self._count
