"""A dense task (per-pixel labels of synthetic images) that uses nothing but the Task protocol."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from timm.layers import DropPath
from torch import Tensor, nn

from hornet_train.data.address import sample_rng
from hornet_train.data.batch import Batch, stacked
from hornet_train.data.loader import EvalLoader, LoaderSettings, TrainLoader
from hornet_train.data.order import Address, EpochPlan
from hornet_train.data.sources.source import Fields
from hornet_train.engine.calendar import Calendar
from hornet_train.engine.checkpoint import CheckpointStore, read_checkpoint
from hornet_train.engine.distributed import World
from hornet_train.engine.loop_settings import Settings
from hornet_train.engine.precision import loss_scaler
from hornet_train.engine.state import TrainState
from hornet_train.engine.tally import SumTally
from hornet_train.engine.task import Loss
from hornet_train.engine.trainer import Trainer
from hornet_train.models import GnConv
from hornet_train.optim.ema import AveragedModel
from hornet_train.optim.groups import parameter_groups
from hornet_train.optim.optimizers import adamw
from hornet_train.optim.schedules import cosine
from hornet_train.track.metric_table import MetricInfo, MetricTable
from hornet_train.track.sinks import JsonlSink

CPU = World(rank=0, size=1, device=torch.device("cpu"))


def begun(model: nn.Module, average: AveragedModel | None = None) -> TrainState:
    """The state of a run of one step that has not begun, in fp32."""
    return TrainState(
        model=model,
        optimizer=adamw(
            parameter_groups(model.named_parameters(), weight_decay=0.05), betas=(0.9, 0.999), eps=1e-8
        ),
        scaler=loss_scaler("fp32", CPU.device),
        average=average,
        calendar=Calendar(1, 1, 1),
    )


@dataclass(frozen=True)
class Squares:
    """A bright square on noise; the label of a pixel is whether it lies inside. Both source and samples."""

    ragged: ClassVar[tuple[str, ...]] = ()
    count: int
    seed: int

    def __len__(self) -> int:
        return self.count

    def read(self, index: int) -> Fields:
        return {"number": index}

    def decode(self, fields: Fields) -> tuple[Tensor, Tensor]:
        rng = sample_rng(self.seed, 0, fields["number"])
        pixels = torch.from_numpy(rng.standard_normal((3, 16, 16)).astype(np.float32))
        label = torch.zeros(16, 16, dtype=torch.int64)
        top, left, size = (int(rng.integers(0, 9)) for _ in range(3))
        label[top : top + size, left : left + size] = 1
        return pixels, label

    def nbytes(self, decoded: tuple[Tensor, Tensor]) -> int:
        return sum(tensor.nbytes for tensor in decoded)

    def make(self, address: Address, decoded: tuple[Tensor, Tensor]) -> dict[str, Any]:
        image, target = decoded
        noise = sample_rng(
            self.seed, address.epoch, address.index
        ).standard_normal()  # an augmentation: brightness
        return {"image": image + 2.0 * target + 0.1 * noise, "label": target}


def scaled(loss: Loss, factor: float) -> Loss:
    """A loss times a factor, which is NaN or large enough to count as a spike."""
    return replace(loss, mean=loss.mean * factor)


@dataclass(frozen=True)
class PerPixel:
    """Cross-entropy of each pixel; the metric is the percentage of pixels classified correctly."""

    drop_path: float = 0.0

    def build_model(self) -> nn.Module:
        mixing = nn.Sequential(GnConv(8, order=2, mixer=3), DropPath(self.drop_path))
        return nn.Sequential(nn.Conv2d(3, 8, 1), mixing, nn.GELU(), nn.Conv2d(8, 2, 1))

    def loss(self, model: nn.Module, batch: Batch, rng: np.random.Generator) -> Loss:
        strength = 1.0 + 0.1 * rng.random()  # a random number drawn for each batch, on the host
        logits = model(strength * stacked(batch, "image")).float()
        return Loss(F.cross_entropy(logits, stacked(batch, "label")))

    def tally(self, device: torch.device) -> SumTally:
        return SumTally("loss", "right", measure=self._sums, metrics=self._means, device=device)

    def _sums(self, model: nn.Module, batch: Batch) -> dict[str, Tensor | int]:
        logits = model(stacked(batch, "image")).float()
        labels = stacked(batch, "label")
        loss = F.cross_entropy(logits, labels, reduction="none").mean(dim=(1, 2)).sum()
        right = (logits.argmax(1) == labels).float().mean(dim=(1, 2)).sum()
        return {"count": len(logits), "loss": loss, "right": right}

    def _means(self, sums: Mapping[str, float]) -> dict[str, float]:
        count = sums["count"]
        return {"loss": sums["loss"] / count, "pixel_accuracy": 100 * sums["right"] / count}


class EventFile:
    """Appends events to a file that is not kept open: many tests drop a trainer without closing its sinks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        JsonlSink(path).close()  # creates the file

    def write(self, event: Mapping[str, Any]) -> None:
        with closing(JsonlSink(self.path)) as sink:
            sink.write(event)

    def close(self) -> None:
        """Nothing is open."""


def dense_trainer(
    folder: Path,
    *,
    workers: int = 0,
    drop_path: float = 0.2,
    micro_batch_size: int = 4,
    total_steps: int = 12,
    checkpoint_every: int = 5,
    eval_every: int = 6,
    log_every: int = 1,
    keep: int = 2,
    world: World = CPU,
    task: PerPixel | None = None,
) -> Trainer:
    """A run of 22 images in global batches of 8: each epoch has two full steps and one of 6 images."""
    task = task or PerPixel(drop_path)
    torch.manual_seed(0)
    model = task.build_model().to(world.device)
    state = TrainState(
        model=model,
        optimizer=adamw(
            parameter_groups(model.named_parameters(), weight_decay=0.05), betas=(0.9, 0.999), eps=1e-8
        ),
        scaler=loss_scaler("fp32", world.device),
        average=AveragedModel(model, decay=0.9),
        calendar=Calendar(22, 8, 3),
    )
    begun = {name: value.clone() for name, value in model.state_dict().items()}
    plan = EpochPlan(22, 8, micro_batch_size, world.rank, world.size, seed=5, drop_last=False)
    store = CheckpointStore(folder / "checkpoints", keep=keep)
    newest, _ = store.newest()
    if newest is not None:
        saved = read_checkpoint(newest)
        state.restore(saved.tensors, saved.numbers)
    folder.mkdir(exist_ok=True)
    training, held_out = Squares(22, seed=5), Squares(7, seed=6)
    return Trainer(
        task=task,
        state=state,
        network=world.wrap(model),
        plan=plan,
        train_data=TrainLoader(training, training, plan, LoaderSettings(world.device, workers)),
        eval_data=EvalLoader(held_out, held_out, LoaderSettings(world.device)),
        schedule=cosine(peak=2e-2, total=total_steps, warmup=1),
        settings=Settings(
            seed=5,
            total_steps=total_steps,
            log_every=log_every,
            eval_every=eval_every,
            checkpoint_every=checkpoint_every,
            eval_batch_size=4,
            precision="fp32",
            clip_grad=1.0,
        ),
        store=store,
        world=world,
        initial_weights=lambda: begun,
        metrics=MetricTable((MetricInfo("pixel_accuracy", "pixel accuracy", percent=True),)),
        sinks=[EventFile(folder / "metrics.jsonl")],
    )
