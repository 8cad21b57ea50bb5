"""The loop. It knows a task, its data and a state; not which task, model or config."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from torch import Tensor, nn

from hornet_train.data.loader import Loader
from hornet_train.data.sampler import EpochPlan
from hornet_train.engine.checkpoint import CheckpointStore
from hornet_train.engine.distributed import World
from hornet_train.engine.evaluate import evaluate
from hornet_train.engine.precision import PrecisionName
from hornet_train.engine.state import Best, TrainState
from hornet_train.engine.step import StepResult, train_step
from hornet_train.engine.task import Batch, Task
from hornet_train.errors import DataError
from hornet_train.optim.schedules import Schedule
from hornet_train.track.metrics import Speedometer, Sums
from hornet_train.track.sinks import Sink


@dataclass(frozen=True)
class Settings:
    """How a run goes; steps are counted from its start, `*_every` in steps."""

    seed: int
    total_steps: int
    log_every: int
    eval_every: int
    checkpoint_every: int
    eval_batch_size: int
    precision: PrecisionName
    clip_grad: float | None


@dataclass
class Trainer:
    """A run, ready to go on from wherever its state stands.

    Attributes:
        network: the state's model as it is trained: compiled, under DDP.
        train_data, eval_data: read by addresses; eval_data None for none.
        schedule: the learning rate of a step.
        store: where checkpoints go; used on rank 0.
        sinks: where events go; empty on other ranks.
        advance: told each step that is done.
    """

    task: Task
    state: TrainState
    network: nn.Module
    plan: EpochPlan
    train_data: Loader
    eval_data: Loader | None
    schedule: Schedule
    settings: Settings
    store: CheckpointStore
    world: World
    sinks: list[Sink] = field(default_factory=list)
    advance: Callable[[int], None] = lambda _step: None

    def fit(self) -> Best | None:
        """Train from the state's step to the last one; returns the best evaluation.

        Raises:
            DataError: a training or evaluation sample cannot be read.
        """
        settings, state = self.settings, self.state
        batches = self.train_data.training(self.plan, state.step, settings.total_steps)
        self._start_window()
        self.network.train()
        while state.step < settings.total_steps:
            step = state.step
            sizes = self.plan.micro_sizes(step)
            result = train_step(
                state,
                self.network,
                self.task,
                self._timed(islice(batches, len(sizes))),
                sizes,
                step_size=self.plan.step_size(step),
                learning_rate=self.schedule(step),
                seed=settings.seed,
                precision=settings.precision,
                clip_grad=settings.clip_grad,
                world=self.world,
            )
            self._count(result, sizes, step)
            self.advance(state.step)
            if self._due(settings.log_every):
                self._log(step)
            improved = self._due(settings.eval_every) and self._evaluate()
            if improved or self._due(settings.checkpoint_every):
                self._save()
        self.world.barrier()
        return state.best

    def _due(self, every: int) -> bool:
        return self.state.step % every == 0 or self.state.step == self.settings.total_steps

    def _start_window(self) -> None:
        """Begin to add up what the next `train` event tells."""
        self.speed = Speedometer()
        self.sums = Sums(device=self.world.device)
        self.grad_norm: Tensor | None = None
        self.loss_scale = self.state.scaler.get_scale()

    def _timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches, the time that the loop waited for them taken down."""
        while True:
            begin = time.perf_counter()
            batch = next(batches, None)
            self.speed.add_wait(time.perf_counter() - begin)
            if batch is None:
                return
            yield batch

    def _count(self, result: StepResult, sizes: list[int], step: int) -> None:
        self.sums.add(loss=result.loss_sum, images=sum(sizes))
        self.grad_norm = result.grad_norm
        self.speed.add_images(self.plan.step_size(step))

    def _log(self, step: int) -> None:
        """Tell the window's mean loss over all ranks; the one place where the host waits for the device."""
        assert self.grad_norm is not None
        self.sums.add(grad_norm=self.grad_norm / self.world.size)  # the same on every rank
        self.sums.reduce(self.world.all_reduce)
        totals = self.sums.read()
        images_per_second, data_wait = self.speed.read()
        self._tell(
            "train",
            loss=totals["loss"] / totals["images"],
            lr=self.schedule(step),
            grad_norm=totals["grad_norm"],
            images_per_second=images_per_second,
            data_wait=data_wait,
        )
        if self.state.scaler.get_scale() < self.loss_scale:
            self._tell("skipped_step", reason="fp16 overflow", loss_scale=self.state.scaler.get_scale())
        self._start_window()

    def _evaluate(self) -> bool:
        """Evaluate the model and its average; whether one of them is the best so far."""
        if self.eval_data is None:
            return False
        improved = False
        contestants = {"model": self.state.model}
        if self.state.average is not None:
            contestants["ema"] = self.state.average.module
        with self.speed.paused():
            for weights, model in contestants.items():
                metrics = self._evaluate_one(model)
                self._tell("eval", weights=weights, **metrics)
                goal, best = self.task.goal, self.state.best
                if goal.better(metrics[goal.metric], than=best.value if best else None):
                    self.state.best = Best(self.state.step, weights, goal.metric, metrics[goal.metric])
                    improved = True
        return improved

    def _evaluate_one(self, model: nn.Module) -> dict[str, float]:
        assert self.eval_data is not None
        world = self.world
        batches = self.eval_data.evaluation(world.rank, world.size, self.settings.eval_batch_size)
        metrics = evaluate(self.task, model, batches, world=world, precision=self.settings.precision)
        if metrics["count"] != len(self.eval_data.samples):
            raise DataError(f"evaluation counted {metrics['count']} samples of {len(self.eval_data.samples)}")
        return metrics

    def _save(self) -> None:
        with self.speed.paused():
            if self.world.is_main:
                self.store.save(self.state.tensors(), self.state.numbers())

    def _tell(self, event: str, **values: Any) -> None:
        epoch = round(self.state.step / self.plan.steps_per_epoch, 4)
        for sink in self.sinks:
            sink.write({"event": event, "step": self.state.step, "epoch": epoch, **values})
