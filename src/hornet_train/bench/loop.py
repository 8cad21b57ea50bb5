"""Overheads: of the training loop over a bare step, of averaged weights, and of writing a checkpoint."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

from hornet_train.bench.timing import ratio, wait_for
from hornet_train.data.batch import Batch, stacked
from hornet_train.data.loader import Loaded
from hornet_train.data.order import EpochPlan
from hornet_train.engine.calendar import Calendar
from hornet_train.engine.checkpoint import CheckpointStore
from hornet_train.engine.distributed import World
from hornet_train.engine.loop_settings import Settings
from hornet_train.engine.precision import PrecisionName, autocast, loss_scaler
from hornet_train.engine.state import TrainState
from hornet_train.engine.trainer import Trainer
from hornet_train.images.normalize import Normalize
from hornet_train.images.size import Size, height_width
from hornet_train.models.spec import ModelSpec
from hornet_train.optim.ema import AveragedModel
from hornet_train.optim.groups import parameter_groups
from hornet_train.optim.optimizers import adamw
from hornet_train.tasks.classification.mixing import Mixer
from hornet_train.tasks.classification.task import Classification

_CLASSES = 1000
_FOREVER = 10**9  # steps
_LEARNING_RATE = 1e-4
_WARM_UP = 4  # steps; the first ones allocate memory, also that of a checkpoint's copy


@dataclass(frozen=True)
class Overhead:
    """Ratios of times, each as (median, smallest, largest) over the rounds.

    Attributes:
        step_seconds: median time of a bare step: forward, backward and the optimizer's update.
        fit: a step in `fit` without averaged weights, over a bare step.
        average: a step in `fit` with averaged weights, over one without.
        checkpoint: seconds for which the loop waited at each checkpoint.
    """

    step_seconds: float
    fit: tuple[float, float, float]
    average: tuple[float, float, float]
    checkpoint: list[float]

    def as_json(self) -> dict[str, Any]:
        return dict(vars(self))


class _StopFit(Exception):  # noqa: N818 - no fault: it ends `fit` once enough is measured
    pass


@dataclass
class _Repeated:
    """Training data that yield the same micro-batch forever, already on the device."""

    batch: Batch

    def batches(self, _first: int, _last: int, _seen: int = 0) -> Iterator[Loaded]:
        while True:
            yield Loaded(dict(self.batch), [])


def measure_loop(
    model: str,
    *,
    batch_size: int,
    image_size: Size,
    precision: PrecisionName,
    rounds: int,
    checkpoints: int,
    world: World,
) -> Overhead:
    """Run `fit` with bare steps between its steps, then write checkpoints.

    Args:
        model: its name in timm.
        rounds: how many steps of each kind are timed.
        checkpoints: how many checkpoints are timed, one after the other.
    """
    with tempfile.TemporaryDirectory() as folder:
        trainer = _trainer(model, batch_size, image_size, precision, world, Path(folder))
        taken = _in_turns(trainer, _bare_step(trainer, precision), rounds)
        waits = _checkpoint_waits(trainer, checkpoints)
    return Overhead(
        median(taken["bare"]),
        ratio(taken["bare"], taken["fit"]),
        ratio(taken["fit"], taken["average"]),
        waits,
    )


def _in_turns(trainer: Trainer, bare: Callable[[], object], rounds: int) -> dict[str, list[float]]:
    """Seconds of the steps of one `fit`, with and without averaged weights, and of bare steps in between."""
    taken: dict[str, list[float]] = {"fit": [], "average": [], "bare": []}
    state, average, device = trainer.state, trainer.state.average, trainer.world.device
    begin = 0.0

    def timed(call: Callable[[], object]) -> float:
        wait_for(device)
        before = time.perf_counter()
        call()
        wait_for(device)
        return time.perf_counter() - before

    def advance(step: int) -> None:
        nonlocal begin
        wait_for(device)
        now = time.perf_counter()
        if step > _WARM_UP:
            taken["fit" if state.average is None else "average"].append(now - begin)
        if state.average is None:  # one bare step for every two steps of fit
            seconds = timed(bare)
            if step > _WARM_UP:
                taken["bare"].append(seconds)
        state.average = average if state.average is None else None
        if len(taken["average"]) == rounds:
            state.average = average
            raise _StopFit
        begin = time.perf_counter()

    state.average = None
    trainer.advance = advance
    with suppress(_StopFit):
        trainer.fit()
    return taken


def _trainer(
    name: str,
    batch_size: int,
    image_size: Size,
    precision: PrecisionName,
    world: World,
    folder: Path,
) -> Trainer:
    """A training on random images already on the device; it neither logs nor saves by itself."""
    torch.manual_seed(0)
    mixer = Mixer(_CLASSES, mixup=0.0, cutmix=0.0, prob=0.0, switch_prob=0.0, smoothing=0.0)
    task = Classification(ModelSpec(name, _CLASSES), Normalize(), mixer, erasing=False)
    model = task.build_model().to(world.device)
    begun = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = adamw(
        parameter_groups(model.named_parameters(), weight_decay=0.05), betas=(0.9, 0.999), eps=1e-8
    )
    images = torch.randint(
        256, (batch_size, *height_width(image_size), 3), dtype=torch.uint8, device=world.device
    )
    batch: Batch = {
        "image": images.permute(0, 3, 1, 2),
        "label": torch.randint(_CLASSES, (batch_size,), device=world.device),
    }
    return Trainer(
        task=task,
        state=TrainState(
            model=model,
            optimizer=optimizer,
            scaler=loss_scaler(precision, world.device),
            average=AveragedModel(model, decay=0.9999),
            calendar=Calendar(batch_size * _FOREVER, batch_size, _FOREVER),
        ),
        network=model,
        plan=EpochPlan(
            samples=batch_size * _FOREVER,
            batch_size=batch_size,
            micro_batch_size=batch_size,
            rank=0,
            world_size=1,
            seed=0,
            drop_last=True,
        ),
        train_data=_Repeated(batch),
        eval_data=None,
        schedule=lambda _step: _LEARNING_RATE,
        settings=Settings(
            seed=0,
            total_steps=_FOREVER,
            log_every=_FOREVER,
            eval_every=_FOREVER,
            checkpoint_every=_FOREVER,
            eval_batch_size=batch_size,
            precision=precision,
            clip_grad=None,
        ),
        initial_weights=lambda: begun,
        store=CheckpointStore(folder, keep=1),
        world=world,
    )


def _bare_step(trainer: Trainer, precision: PrecisionName) -> Callable[[], object]:
    """A step of the same model without the loop: forward, backward, update, on normalised images."""
    state, task = trainer.state, trainer.task
    assert isinstance(task, Classification)
    loaded = next(trainer.train_data.batches(0, 1))
    labels = stacked(loaded.batch, "label")
    images = task.normalize(stacked(loaded.batch, "image"))
    if task.model.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)

    def call() -> None:
        with autocast(precision, labels.device):
            logits = state.model(images)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        state.scaler.scale(loss).backward()
        state.scaler.step(state.optimizer)
        state.scaler.update()
        state.optimizer.zero_grad(set_to_none=True)

    return call


def _checkpoint_waits(trainer: Trainer, checkpoints: int) -> list[float]:
    """Seconds for which the loop waits at each of several checkpoints, with steps between them."""
    seconds: list[float] = []
    save = trainer.save

    def timed_save() -> None:
        begin = time.perf_counter()
        save()
        seconds.append(time.perf_counter() - begin)

    def advance(_step: int) -> None:
        if trainer.saver.idle:  # the last one is on the disk, as it would be in a real run
            timed_save()
        if len(seconds) == checkpoints:
            raise _StopFit

    trainer.advance = advance
    with suppress(_StopFit):
        trainer.fit()
    return seconds
