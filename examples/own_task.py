"""A task of one's own in one file: several labels an image, measured by mean average precision.

    hornet-train task=examples.own_task epochs=4 batch_size=64 schedule.warmup=8it run_dir=runs/pairs
    hornet-eval checkpoint=runs/pairs task=examples.own_task

Each image shows two handwritten digits; ten labels say which. A tenth of the training labels is unknown.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.metrics import average_precision_score
from torch import Tensor, nn

from hornet_train.config.fields import Count, Share, group
from hornet_train.config.schema import Data
from hornet_train.config.task_schema import simple_schema
from hornet_train.data.address import sample_rng
from hornet_train.data.batch import Batch, stacked
from hornet_train.data.order import Address
from hornet_train.data.sources.source import Fields, sha256_of
from hornet_train.engine.tally import ListTally
from hornet_train.engine.task import Loss
from hornet_train.models.spec import ModelSpec
from hornet_train.tasks.kit import Kit
from hornet_train.tasks.kit_types import Datasets
from hornet_train.track.metric_table import MetricInfo, MetricTable

digits = cache(lambda: load_digits(return_X_y=True))  # (1797, 64) of 0..16, (1797,)


@group
class PairData(Data):
    """The `data` group: how many pairs there are, and which share of the training labels is known."""

    source: Literal["digit_pairs"]
    train_count: Count
    val_count: Count
    known: Share


@dataclass(frozen=True)
class Pairs:
    """Storage: sample `index` is a function of (seed, index)."""

    count: int
    seed: int
    known: float = 1.0

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Fields:
        pixels, numbers = digits()
        rng = np.random.default_rng((self.seed, index))
        pair = rng.integers(len(numbers), size=2)
        labels = np.isin(np.arange(10), numbers[pair]).astype(np.float32)
        labels[rng.random(10) > self.known] = -1  # unknown
        image = np.hstack(pixels[pair].reshape(2, 8, 8)).astype(np.float32) / 8 - 1
        return {"image": torch.from_numpy(image), "labels": torch.from_numpy(labels)}

    def locate(self, index: int) -> str:
        return f"digit pair {index}"

    @property
    def fingerprint(self) -> str:
        return sha256_of(repr(self).encode())


@dataclass(frozen=True)
class PairSamples:
    """From storage to a sample: `image` float (1, 32, 64), of random contrast; `labels` float (10,)."""

    seed: int | None  # None: no augmentation
    ragged: Collection[str] = ()

    def decode(self, fields: Fields) -> Fields:
        return fields

    def nbytes(self, decoded: Fields) -> int:
        return int(decoded["image"].nbytes)

    def make(self, address: Address, decoded: Fields) -> dict[str, Any]:
        image = F.interpolate(decoded["image"][None, None], scale_factor=4)[0]
        if self.seed is not None:
            image = image * sample_rng(self.seed, address.epoch, address.index).uniform(0.7, 1.3)
        return {"image": image, "labels": decoded["labels"]}


@dataclass(frozen=True)
class PairTask:
    """Binary cross-entropy, averaged over the known labels of a step."""

    model: ModelSpec

    def build_model(self) -> nn.Module:
        return self.model.build()

    def loss(self, model: nn.Module, batch: Batch, rng: np.random.Generator) -> Loss:  # noqa: ARG002
        labels = stacked(batch, "labels")
        known = (labels >= 0).float()
        each = F.binary_cross_entropy_with_logits(self.logits(model, batch), labels, reduction="none")
        return Loss((each * known).sum() / known.sum().clamp(min=1), weight=known.mean(dim=1).sum())

    def logits(self, model: nn.Module, batch: Batch) -> Tensor:
        return model(stacked(batch, "image").expand(-1, self.model.in_chans, -1, -1)).float()

    def tally(self, device: torch.device) -> ListTally:  # noqa: ARG002
        def scores(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
            return {"score": self.logits(model, batch), "label": stacked(batch, "labels")}

        return ListTally(scores, lambda of: {"map": 100 * average_precision_score(of["label"], of["score"])})


class OwnKit(Kit[Any, Any]):
    """All that the task brings."""

    metrics = MetricTable((MetricInfo("map", "mean average precision", percent=True),))
    schema = simple_schema(
        "own_task",
        "several labels an image",
        data=PairData,
        defaults={"data": {"source": "digit_pairs", "train_count": 512, "val_count": 128, "known": 0.9}},
    )

    def open_data(self, data: Any, *, training: bool = True, **_: Any) -> Datasets:
        train = Pairs(data.train_count, seed=0, known=data.known) if training else None
        return Datasets(train, Pairs(data.val_count, seed=1), tuple("0123456789"))

    def build_task(self, config: Any, datasets: Datasets) -> PairTask:
        model, classes = config.model, len(datasets.classes)
        args = {"img_size": (32, 64), **model.args}
        return PairTask(ModelSpec(model.name, classes, model.drop_path, args=args, in_chans=model.in_chans))

    def train_samples(self, config: Any, **_: Any) -> PairSamples:
        return PairSamples(config.seed)

    def eval_samples(self, data: Any) -> PairSamples:  # noqa: ARG002
        return PairSamples(None)


KIT = OwnKit()
