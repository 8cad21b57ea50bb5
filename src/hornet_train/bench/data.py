"""The data pipeline measured: against the bare JPEG decode, against timm's loader, and after a resume.

Every comparison is of rounds that take turns in one process; what is told is the median over the rounds, and
for a ratio the median of the rounds' ratios.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
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
_FILES = 1600  # that the loaders read in a round
_DECODED = 400  # of these, that one process does
_WARM = 2  # batches before the clock starts
_LONG = 1_281_167  # samples of the epoch that is resumed in


@dataclass(frozen=True)
class Ratio:
    """Ours against something else: per second or in microseconds, medians; `ratio` is that of ours to it."""

    what: str
    unit: str
    ours: float
    other: float
    ratio: float
    least: float  # of the rounds' ratios
    most: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    root: Path, *, workers: int, rounds: int, against_timm: bool, say: Callable[[str], None]
) -> list[Ratio]:
    """Everything, some minutes.

    Args:
        root: holds `train/<class>/`, of which at most 1,600 images are read.
        workers: reading processes of each loader.
        rounds: how often each is measured.
        against_timm: whether timm's loader is measured too; otherwise the loaders are told beside what the
            processes would decode alone.
        say: told what is being measured.

    Raises:
        DataError: no images there; or timm's RandAugment cannot run under this Pillow.
    """
    if against_timm and int(PIL.__version__.split(".")[0]) >= 13:
        raise DataError(
            f"timm's RandAugment raises under Pillow {PIL.__version__} where posterize reaches 0 bits: run "
            "with Pillow 12 (make bench-data does), or leave timm out with --without-timm"
        )
    source = _First(FolderSource(root, "train"))
    if len(source) < BATCH * (_WARM + 1):
        raise DataError(f"{root}/train has {len(source)} images; a measurement takes {BATCH * (_WARM + 1)}")
    jpegs = list(islice(filter(partial(_is_jpeg, source), range(len(source))), _DECODED))
    if len(jpegs) < BATCH:
        raise DataError(
            f"{root}/train has {len(jpegs)} sound JPEGs among its first {len(source):,} images, and a batch "
            f"has {BATCH}: the bare decode is that of JPEGs; give another folder, or none"
        )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        say("one process: decode, and a training image from file to tensor")
        with ProcessPoolExecutor(1, get_context("fork"), initializer=set_up_worker) as process:
            results = process.submit(_of_one_process, source, jpegs, rounds).result()
        for training in (True, False):
            say(f"loaders, {workers} workers: {'training' if training else 'evaluation'}")
            if against_timm:
                results.append(_loaders(source, root, workers, rounds, training=training))
            else:
                rate = max(1, workers) * 1e6 / results[0].other
                results.append(_loader_alone(source, workers, rounds, rate, training=training))
        say("the first batch of an epoch, and after a resume at 90 % of it")
        return [*results, _first_batches(source, workers, rounds)]
    finally:
        torch.set_num_threads(threads)


def train_transform() -> TrainTransform:
    """The augmentation of the published trainings."""
    policy = parse_policy(RECIPE, MEAN_PIXEL, "bicubic")
    transform = TrainTransform(SIZE, policies=(policy,), erase_prob=ERASE)
    transform.warm_up()
    return transform


def _ratio(what: str, unit: str, ours: list[float], other: list[float]) -> Ratio:
    ratios = [a / b for a, b in zip(ours, other, strict=True)]
    return Ratio(what, unit, median(ours), median(other), median(ratios), min(ratios), max(ratios))


class _First:
    """The first images of a folder."""

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
    """Whether the bare decoder takes it."""
    try:
        simplejpeg.decode_jpeg(Path(source.locate(index)).read_bytes(), "RGB")
    except (ValueError, OSError):
        return False
    return True


def _of_one_process(source: Source, chosen: list[int], rounds: int) -> list[Ratio]:
    """Microseconds an image, of one process that does what a reading one does, batch by batch.

    Within a round, too, the three take turns.
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
        _ratio("training image : bare JPEG decode", "us/image", taken["train"][1:], decode),
        _ratio("evaluation image : bare JPEG decode", "us/image", taken["eval"][1:], decode),
    ]


def _loader_alone(source: Source, workers: int, rounds: int, decoded: float, *, training: bool) -> Ratio:
    """Beside `decoded`, the images that the processes would decode in a second if they did nothing else."""
    ours = [_images_per_second(_ours(source, workers, training)) for _ in range(rounds)]
    what = "training" if training else "evaluation"
    return _ratio(f"{what} loader : bare JPEG decode", "images/s", ours, [decoded] * rounds)


def _loaders(source: Source, root: Path, workers: int, rounds: int, *, training: bool) -> Ratio:
    ours: list[float] = []
    timms: list[float] = []
    for round_ in range(rounds):
        for theirs in (False, True) if round_ % 2 else (True, False):
            batches = _timms(root, workers, training) if theirs else _ours(source, workers, training)
            (timms if theirs else ours).append(_images_per_second(batches))
    what = "training" if training else "evaluation"
    return _ratio(f"{what} loader : timm's create_loader", "images/s", ours, timms)


def _images_per_second(batches: Iterator[Tensor]) -> float:
    """From when some batches are there to when the last one is: no processes start or end between."""
    for _ in range(_WARM):
        next(batches)
    begin, images = time.perf_counter(), 0
    end = begin
    for batch in batches:
        images += len(batch)
        end = time.perf_counter()
    return images / (end - begin)


def _ours(source: Source, workers: int, training: bool) -> Iterator[Tensor]:
    """Normalised batches, with random erasing in training."""
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


def _timms(root: Path, workers: int, training: bool) -> Iterator[Tensor]:
    """The same of timm: its prefetcher normalises and erases."""
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
class _Repeated:
    """As many samples as ImageNet has, of fewer files."""

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
    repeated, samples = _Repeated(source), TrainSamples(train_transform(), _SEED)
    plan = EpochPlan(_LONG, BATCH, BATCH, 0, 1, _SEED, drop_last=True)
    begins = {"start": 0, "resumed": plan.steps_per_epoch * 9 // 10}
    taken: dict[str, list[float]] = {name: [] for name in begins}
    for round_ in range(2 * rounds + 1):
        for name in sorted(begins, reverse=bool(round_ % 2)):
            step = begins[name] + plan.steps_per_epoch * (round_ + 1)  # an epoch whose order is not known yet
            begin = time.perf_counter()
            loader = TrainLoader(repeated, samples, plan, LoaderSettings(_CPU, workers)).batches(
                step, step + 1
            )
            for _ in islice(loader, 1):
                taken[name].append((time.perf_counter() - begin) * 1e3)
    return _ratio(
        "first batch : at 90 % of an epoch, at its start", "ms", taken["resumed"][1:], taken["start"][1:]
    )
