"""Benchmarks of the data pipeline: against the bare JPEG decode, against timm's loader, and after a resume.

The two sides of a comparison take turns in one process. The figures are medians over the rounds; a ratio
is the median of the ratios of the rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import PIL
import simplejpeg
import torch
from torch import Tensor

from hornet_train.bench.timing import one_thread
from hornet_train.data.batch import stacked
from hornet_train.data.loader import EvalLoader, Loaded, LoaderSettings, TrainLoader
from hornet_train.data.order import Address, EpochPlan
from hornet_train.data.sources.source import Fields, Source
from hornet_train.data.worker import SampleReader, set_up_worker
from hornet_train.errors import DataError
from hornet_train.images.normalize import Normalize
from hornet_train.images.policies import parse_policy
from hornet_train.images.policies.randaugment import MEAN_PIXEL
from hornet_train.tasks.classification.mixing import erase
from hornet_train.tasks.classification.samples import EvalSamples, TrainSamples
from hornet_train.tasks.classification.sources import FolderSource
from hornet_train.tasks.classification.transforms import EvalTransform, TrainTransform

RECIPE = "rand-m9-mstd0.5-inc1"
SIZE = 224
ERASE = 0.25
BATCH = 32
_CPU = torch.device("cpu")
_SEED = 0
_FILES = 1600  # read by each loader in a round
_DECODED = 400  # of these, decoded in the one-process comparison
_WARM = 2  # batches before the clock starts
_LONG = 1_281_167  # samples of an epoch of ImageNet, for the first batch after a resume


@dataclass(frozen=True)
class Ratio:
    """Our figure and another one, both medians over the rounds; `ratio` is ours divided by the other."""

    what: str
    unit: str
    ours: float
    other: float
    ratio: float
    least: float  # smallest of the rounds' ratios
    most: float  # largest of them


def measure(
    root: Path, *, workers: int, rounds: int, against_timm: bool, say: Callable[[str], None]
) -> list[Ratio]:
    """Run all comparisons; this takes some minutes.

    Args:
        root: a folder with `train/<class>/`; at most 1,600 of its images are read.
        workers: worker processes of each loader.
        rounds: how often each side is measured.
        against_timm: whether to measure timm's loader too; otherwise our loaders are compared with the rate
            at which the worker processes would decode if they did nothing else.
        say: called with a line of progress.

    Raises:
        DataError: the folder has too few images, or timm's RandAugment cannot run with this Pillow.
    """
    if against_timm and int(PIL.__version__.split(".")[0]) >= 13:
        raise DataError(
            f"timm's RandAugment fails with Pillow {PIL.__version__} when posterize reaches 0 bits: use "
            "Pillow 12 (make bench-data does), or skip timm with --without-timm"
        )
    source = FirstFiles(FolderSource(root, "train"))
    if len(source) < BATCH * (_WARM + 1):
        least = BATCH * (_WARM + 1)
        raise DataError(f"{root}/train has {len(source)} images; a measurement needs at least {least}")
    jpegs = list(islice(filter(partial(_is_jpeg, source), range(len(source))), _DECODED))
    if len(jpegs) < BATCH:
        raise DataError(
            f"{root}/train has {len(jpegs)} readable JPEGs among its first {len(source):,} images, but the "
            f"bare JPEG decode is measured on at least {BATCH}: give another folder, or leave --images out"
        )
    with one_thread():
        say("one process: decode, and a training image from file to tensor")
        with ProcessPoolExecutor(1, get_context("fork"), initializer=set_up_worker) as process:
            results = process.submit(_single_process, source, jpegs, rounds).result()
        for training in (True, False):
            say(f"loaders, {workers} workers: {'training' if training else 'evaluation'}")
            if against_timm:
                results.append(_loaders(source, root, workers, rounds, training=training))
            else:
                rate = max(1, workers) * 1e6 / results[0].other
                results.append(_loader_alone(source, workers, rounds, rate, training=training))
        say("the first batch at the start of an epoch, and after a resume at 90 % of it")
        return [*results, _first_batches(source, workers, rounds)]


def train_transform() -> TrainTransform:
    """The augmentation that the published models were trained with."""
    policy = parse_policy(RECIPE, MEAN_PIXEL, "bicubic")
    transform = TrainTransform(SIZE, policies=(policy,), erase_prob=ERASE)
    transform.warm_up()
    return transform


def ratio_of(what: str, unit: str, ours: list[float], other: list[float]) -> Ratio:
    """What was measured in the rounds, one after the other, as one comparison."""
    ratios = [a / b for a, b in zip(ours, other, strict=True)]
    return Ratio(what, unit, median(ours), median(other), median(ratios), min(ratios), max(ratios))


class FirstFiles:
    """The first images of a folder, `_FILES` at most."""

    def __init__(self, source: FolderSource) -> None:
        self.source = source
        self.fingerprint = source.fingerprint

    def __len__(self) -> int:
        return min(len(self.source), _FILES)

    def read(self, index: int) -> Fields:
        return self.source.read(index)

    def locate(self, index: int) -> str:
        return self.source.locate(index)


def _is_jpeg(source: Source, index: int) -> bool:
    """Whether the bare decoder can read the file."""
    try:
        simplejpeg.decode_jpeg(Path(source.locate(index)).read_bytes(), "RGB")
    except (ValueError, OSError):
        return False
    return True


def _single_process(source: Source, chosen: list[int], rounds: int) -> list[Ratio]:
    """Microseconds per image, in one process that does the work of a worker, batch by batch.

    The three kinds of work take turns within a round too.
    """
    files = {index: Path(source.locate(index)).read_bytes() for index in chosen}
    train = SampleReader(source, TrainSamples(train_transform(), _SEED))
    evaluation = SampleReader(source, EvalSamples(EvalTransform(SIZE)))
    work: dict[str, Callable[[int, list[int]], object]] = {
        "decode": lambda _, batch: [simplejpeg.decode_jpeg(files[i], "RGB").shape for i in batch],
        "train": lambda epoch, batch: train.__getitems__([Address(epoch, i) for i in batch]),
        "eval": lambda _, batch: evaluation.__getitems__([Address(0, i) for i in batch]),
    }
    taken: dict[str, list[float]] = {name: [] for name in work}
    for epoch in range(rounds + 1):
        total = dict.fromkeys(work, 0.0)
        for at in range(0, len(chosen), BATCH):
            for name, do in work.items():
                begin = time.perf_counter()
                do(epoch, chosen[at : at + BATCH])
                total[name] += time.perf_counter() - begin
        for name, seconds in total.items():
            taken[name].append(seconds / len(chosen) * 1e6)
    decode = taken["decode"][1:]  # the first round warms up
    return [
        ratio_of("training image : bare JPEG decode", "us/image", taken["train"][1:], decode),
        ratio_of("evaluation image : bare JPEG decode", "us/image", taken["eval"][1:], decode),
    ]


def _loader_alone(source: Source, workers: int, rounds: int, decoded: float, *, training: bool) -> Ratio:
    """Our loader against `decoded`: images per second if the workers did nothing but decode."""
    ours = [_images_per_second(our_batches(source, workers, training)) for _ in range(rounds)]
    what = "training" if training else "evaluation"
    return ratio_of(f"{what} loader : bare JPEG decode", "images/s", ours, [decoded] * rounds)


def _loaders(source: Source, root: Path, workers: int, rounds: int, *, training: bool) -> Ratio:
    ours: list[float] = []
    timms: list[float] = []
    for round_ in range(rounds):
        for theirs in (False, True) if round_ % 2 else (True, False):
            if theirs:
                timms.append(_images_per_second(_timm_batches(root, workers, training)))
            else:
                ours.append(_images_per_second(our_batches(source, workers, training)))
    what = "training" if training else "evaluation"
    return ratio_of(f"{what} loader : timm's create_loader", "images/s", ours, timms)


def _images_per_second(batches: Iterator[Tensor]) -> float:
    """Timed between batches, so that starting and ending the workers does not count."""
    for _ in range(_WARM):
        next(batches)
    begin, images = time.perf_counter(), 0
    end = begin
    for batch in batches:
        images += len(batch)
        end = time.perf_counter()
    return images / (end - begin)


def our_batches(source: Source, workers: int, training: bool) -> Iterator[Tensor]:
    """One epoch's normalised batches, with random erasing in training."""
    settings, normalize = LoaderSettings(_CPU, workers), Normalize()
    loaded: Iterator[Loaded]
    if training:
        samples = TrainSamples(train_transform(), _SEED)
        plan = EpochPlan(len(source), BATCH, BATCH, 0, 1, _SEED, drop_last=True)
        loaded = TrainLoader(source, samples, plan, settings).batches(0, plan.steps_per_epoch)
    else:
        loaded = EvalLoader(source, EvalSamples(EvalTransform(SIZE)), settings).batches(0, 1, BATCH)
    for one in loaded:
        images = normalize(stacked(one.batch, "image"))
        yield erase(images, stacked(one.batch, "erase")) if training else images


def _timm_batches(root: Path, workers: int, training: bool) -> Iterator[Tensor]:
    """The same batches from timm, whose prefetcher normalises and erases."""
    from timm.data import create_dataset, create_loader

    how: dict[str, Any] = {"auto_augment": RECIPE, "re_prob": ERASE, "re_mode": "pixel"} if training else {}
    dataset = create_dataset("", root=str(root / "train"), split="train")
    dataset.reader.samples = dataset.reader.samples[:_FILES]
    loader = create_loader(
        dataset,
        input_size=(3, SIZE, SIZE),
        batch_size=BATCH,
        is_training=training,
        interpolation="bicubic",
        crop_pct=0.875,
        num_workers=workers,
        device=_CPU,
        persistent_workers=False,
        **how,
    )
    for images, _ in loader:
        yield images


@dataclass(frozen=True)
class Repeated:
    """A source of as many samples as ImageNet has, made by repeating the files of a smaller one."""

    source: Source

    def __len__(self) -> int:
        return _LONG

    def read(self, index: int) -> Fields:
        return self.source.read(index % len(self.source))

    def locate(self, index: int) -> str:
        return self.source.locate(index % len(self.source))

    @property
    def fingerprint(self) -> str:
        return self.source.fingerprint


def _first_batches(source: Source, workers: int, rounds: int) -> Ratio:
    repeated, samples = Repeated(source), TrainSamples(train_transform(), _SEED)
    plan = EpochPlan(_LONG, BATCH, BATCH, 0, 1, _SEED, drop_last=True)
    begins = {"start": 0, "resumed": plan.steps_per_epoch * 9 // 10}
    taken: dict[str, list[float]] = {name: [] for name in begins}
    for round_ in range(2 * rounds + 1):
        for name in sorted(begins, reverse=bool(round_ % 2)):
            # a new epoch each time, so that its order is not cached
            step = begins[name] + plan.steps_per_epoch * (round_ + 1)
            begin = time.perf_counter()
            loader = TrainLoader(repeated, samples, plan, LoaderSettings(_CPU, workers)).batches(
                step, step + 1
            )
            for _ in islice(loader, 1):
                taken[name].append((time.perf_counter() - begin) * 1e3)
    return ratio_of(
        "first batch : at 90 % of an epoch, at its start", "ms", taken["resumed"][1:], taken["start"][1:]
    )
