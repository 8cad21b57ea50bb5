"""The loop. It knows a task, its data and a state; not which task, model or config."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import torch
from torch import nn

from hornet_train.data.loader import EvalData, Loaded, TrainData
from hornet_train.data.order import Plan
from hornet_train.data.worker import BadSample
from hornet_train.engine.background import PATIENCE_AT_THE_END, PATIENCE_WHEN_ASKED, BackgroundSaver
from hornet_train.engine.checkpoint import CheckpointStore
from hornet_train.engine.distributed import World
from hornet_train.engine.evaluate import evaluate, in_lockstep
from hornet_train.engine.guard import Guard, GuardSettings
from hornet_train.engine.precision import PrecisionName
from hornet_train.engine.preemption import Preempted, Stop
from hornet_train.engine.recovery import Initial, Recovery, forget_lost_best
from hornet_train.engine.state import Best, TrainState
from hornet_train.engine.step import train_step
from hornet_train.engine.task import Monitor, Task
from hornet_train.engine.unlogged import Unlogged
from hornet_train.engine.window import Window
from hornet_train.errors import DataError
from hornet_train.optim.schedules import Schedule
from hornet_train.redaction import redacted
from hornet_train.track.sinks import Sink

_log = logging.getLogger("hornet_train")


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
    max_bad: float = 0.001  # greatest share of the training samples that may be damaged
    guard: GuardSettings = field(default_factory=GuardSettings)


@dataclass
class Trainer:
    """A run, ready to go on from wherever its state stands.

    Attributes:
        network: the state's model as it is trained: compiled, under DDP.
        train_data, eval_data: the latter None for none.
        schedule: the learning rate of a step.
        store: where checkpoints go; used on rank 0.
        initial: makes the model's initial weights again.
        monitor: adds to `train` events the greatest over all ranks of what it watches; None for none.
        sinks: where events go; empty on other ranks.
        advance: told each step that is done.
        stop: asked after each step, and within evaluations, whether to save and end.
    """

    task: Task
    state: TrainState
    network: nn.Module
    plan: Plan
    train_data: TrainData
    eval_data: EvalData | None
    schedule: Schedule
    settings: Settings
    store: CheckpointStore
    world: World
    initial: Initial
    monitor: Monitor | None = None
    sinks: list[Sink] = field(default_factory=list)
    advance: Callable[[int], None] = lambda _step: None
    stop: Stop = field(default_factory=Stop)
    window: Window = field(init=False)
    saver: BackgroundSaver = field(init=False)
    saved: int = field(init=False, default=-1)  # the step of the newest checkpoint
    guard: Guard = field(init=False)
    recovery: Recovery = field(init=False)

    def __post_init__(self) -> None:
        state, how = self.state, self.settings
        self.guard = Guard(how.guard, state.record, self.world.device, scaled=how.precision == "fp16")
        self.recovery = Recovery(
            state, self.guard, self.store, self.world, how.seed, how.precision, self.initial
        )

    def fit(self) -> Best | None:
        """Train from the state's step to the last one; returns the best evaluation.

        Raises:
            Preempted: it was asked to stop, and has saved.
            DataError: an evaluation sample cannot be read, or too many training samples.
            DivergenceError: loss or gradient are not finite, and going back did not help.
            CheckpointError: the last checkpoint cannot be written.
        """
        with self.stop.training(), BackgroundSaver(self.store) as self.saver:
            self._train()
            self._settle(PATIENCE_AT_THE_END)
        self.world.watch.close()  # what is left to do, each rank does by itself
        return self.state.best

    def _train(self) -> None:
        settings, state = self.settings, self.state
        batches = self._batches()
        self.window = self._new_window(state.unlogged)
        self.network.train()
        if self.owes_evaluation and self._evaluate():
            self.save()
        first = self._next_step()
        while (step := self._next_step()) < settings.total_steps:
            sizes = self.plan.micro_sizes(step)
            result = train_step(
                state,
                self.network,
                self.task,
                self.window.timed(islice(batches, len(sizes)), step),
                sizes,
                step_size=self.plan.step_size(step),
                learning_rate=self._rate(step),
                seed=settings.seed,
                precision=settings.precision,
                clip_grad=settings.clip_grad,
                world=self.world,
            )
            self.window.add(result, self.plan.step_size(step))
            self.guard.add(step, self.plan.step_size(step), sizes, result, self.window.seen)
            self.advance(state.step)
            self._tell_of_saves()
            if step == first and self.world.is_main:
                self.saver.prepare(state.tensors())  # the optimizer has its moments now
            due = any(map(self._due, (settings.log_every, settings.checkpoint_every, settings.eval_every)))
            if self._went_back(wait=due or self._is_left_out(state.step)):
                batches = self._batches()
                continue
            if self._due(settings.log_every):
                self._log(step)
                self._check_bad_samples()
                self.window = self._new_window()
            if self._due(settings.checkpoint_every):
                self._check_bad_samples()
                self.save()  # before an evaluation, which takes long and may meet a damaged image
            if self.owes_evaluation and self._evaluate():
                self.save()
            if state.step < settings.total_steps:
                self._leave_if_due()
        if self.owes_evaluation:  # the last steps are among those that are left out
            self._evaluate()
        if self.saved != state.step:
            self.save()

    def _next_step(self) -> int:
        """The step to make, past those that are left out."""
        for first, last in self.state.record.left_out:
            if first <= self.state.step < last:
                self.state.step = min(last, self.settings.total_steps)
        return self.state.step

    def _is_left_out(self, step: int) -> bool:
        return any(first <= step < last for first, last in self.state.record.left_out)

    def _batches(self) -> Iterator[Loaded]:
        """The micro-batches of the steps to make from here on."""
        first = self.state.step
        for out, end in [*self.state.record.left_out, (self.settings.total_steps,) * 2]:
            if first < out:
                yield from self.train_data.batches(first, out)
            first = max(first, end)

    def _rate(self, step: int) -> float:
        """The learning rate of a step."""
        return self.schedule(step) * self.state.record.rate

    def _went_back(self, *, wait: bool) -> bool:
        """Look at the steps that were made; whether the run stands at an earlier one now.

        Args:
            wait: also look at those that a GPU may not have finished.

        Raises:
            DivergenceError: it went back too often already.
        """
        for fault in self.guard.faults(wait=wait):
            told = self.recovery.told(fault)
            if fault.skipped:
                self._tell_of(fault.passed.step + 1, "skipped_step", told)
            if fault is self.guard.failed:
                self._check_bad_samples()  # those in the window that is given up
                with self._clock_stopped():
                    self.world.on_main(self.saver.discard)
                    told = self.recovery.go_back(fault, told)
                self.window, self.saved = self._new_window(self.state.unlogged), self.state.step
                self.network.train()
                self.tell("rollback", **told)
                return True
        return False

    def _leave_if_due(self) -> None:
        """Save and end where any rank was asked to.

        Damaged samples and losses that have no event yet wait in the checkpoint: told here, they would be
        told at another step than by a run that was not stopped.

        Raises:
            Preempted: the checkpoint is on the disk.
            CheckpointError: it cannot be written.
        """
        reason = self.stop.due()
        if reason is None:
            return
        self._went_back(wait=True)
        if self.saved != self.state.step:
            self.save(scheduled=False)
        self._settle(PATIENCE_WHEN_ASKED)
        self.tell("preempted", reason=reason)
        raise Preempted(reason, saved=True)

    @property
    def owes_evaluation(self) -> bool:
        """Whether the present step is one to evaluate and that has not been done: before a kill, say."""
        due = self.state.step > 0 and self._due(self.settings.eval_every)
        return self.eval_data is not None and due and self.state.evaluated < self.state.step

    def _due(self, every: int) -> bool:
        return self.state.step % every == 0 or self.state.step == self.settings.total_steps

    def _log(self, step: int) -> None:
        """Tell the window's mean loss over all ranks; the host waits here, for evaluations and saves."""
        totals = self.window.read()
        speed = self.window.speed.read()
        self.tell(
            "train",
            loss=totals.loss / totals.weight if totals.weight else float("nan"),
            **{name: part / totals.weight for name, part in totals.parts.items() if totals.weight},
            lr=self._rate(step),
            grad_norm=totals.grad_norm,
            images_per_second=speed.images_per_second,
            data_wait=speed.data_wait,
            **totals.greatest,
        )

    def _new_window(self, begun: Unlogged | None = None) -> Window:
        """The window of the steps from here on, and of those before that a checkpoint keeps for it."""
        return Window(self.world, self.guard.kept, self.monitor, begun)

    def _check_bad_samples(self) -> None:
        """Tell each damaged training sample the first time that any rank meets it.

        Raises:
            DataError: they are more than `max_bad` of all.
        """
        found = self.window.gather_bad()
        self.window.bad = []
        known = self.state.bad_samples
        for index in sorted(found.keys() - known):
            known.add(index)
            self.tell("bad_sample", path=found[index].where, reason=found[index].reason, index=index)
        samples = self.plan.samples
        if found and len(known) > self.settings.max_bad * samples:
            last = found[max(found)]
            raise DataError(
                f"{len(known):,} of the {samples:,} training samples cannot be read, more than data.max_bad="
                f"{self.settings.max_bad:g} allows; one is {last.where} ({last.reason}). Mend or remove them "
                "(hornet-data check lists them all), or raise data.max_bad"
            )

    def _evaluate(self) -> bool:
        """Evaluate the model and its average; whether there is something to save: a new best, or the end."""
        assert self.eval_data is not None
        models = {"model": self.state.model}
        if self.state.average is not None:
            models["ema"] = self.state.average.module
        world, improved = self.world, False
        batch_size = self.settings.eval_batch_size
        # ranks may have other numbers of batches than each other: of streams each reads whole shards
        meetings = max(world.gather(self.eval_data.batch_count(world.rank, world.size, batch_size)))

        def meet() -> None:
            world.watch.at(self.state.step, "evaluating")
            self._leave_if_due()

        with self._clock_stopped():
            batches = self.eval_data.batches(world.rank, world.size, batch_size)
            results = evaluate(
                self.task,
                models,
                in_lockstep(batches, meetings, meet),
                world=world,
                precision=self.settings.precision,
            )
        for weights, metrics in results.items():
            counted = metrics["count"] + metrics.get("bad", 0)
            if counted != len(self.eval_data):
                raise DataError(f"evaluation counted {counted} samples of {len(self.eval_data)}")
            self.tell("eval", weights=weights, **metrics)
            goal, best = self.task.goal, self.state.best
            if goal.better(metrics[goal.metric], than=best.value if best else None):
                self.state.beaten += [best] if best else []
                self.state.best = Best(self.state.step, weights, goal.metric, metrics[goal.metric])
                improved = True
        self.state.evaluated = self.state.step
        return improved or self.state.step == self.settings.total_steps

    def save(self, *, scheduled: bool = True) -> None:
        """Have the state written as a checkpoint; the host waits for the copy only.

        Args:
            scheduled: whether it is due by itself; not where the run was only asked to stop.
        """
        state, world = self.state, self.world
        world.watch.at(state.step, "saving")
        with self._clock_stopped():  # the device is done: reading the window waits for nothing
            state.unlogged = replace(self.window.read(), bad=self._bad_to_tell())
            if scheduled:
                state.scheduled = state.step
            self._keep_to_saved_best()
            if world.is_main:
                self.saver.save(state.tensors(), state.numbers())
            else:
                state.gather()
            self.saved = state.step

    def _keep_to_saved_best(self) -> None:
        """Fall back to an earlier best where the checkpoint of the best could not be written, and makes way
        for a newer one now."""
        best = self.state.best
        if self.world.is_main:
            self.saver.make_way()
        forget_lost_best(self.state, self.store, self.world)
        now = self.state.best
        if best is not None and best != now and self.world.is_main:
            fallen = f"the best is that of step {now.step}" if now else "there is no other best yet"
            _log.warning("the checkpoint of step %d, the best, was never written: %s", best.step, fallen)

    def _bad_to_tell(self) -> list[BadSample]:
        """The damaged samples of the window that have no event yet, as texts may be stored."""
        found = self.window.gather_bad()
        return [
            replace(found[index], where=redacted(found[index].where), reason=redacted(found[index].reason))
            for index in sorted(found.keys() - self.state.bad_samples)
        ]

    def _settle(self, patience: float) -> None:
        """Until the newest checkpoint is on the disk. All ranks wait: one that ends would have them killed.

        Raises:
            CheckpointError: the disk has not taken it for `patience` seconds.
        """
        try:
            self.world.on_main(lambda: self.saver.wait(patience))
        finally:
            self._tell_of_saves()

    def _tell_of_saves(self) -> None:
        """What became of checkpoints that could not be written at first; cheap, and known to rank 0."""
        for outcome in self.saver.poll():
            if outcome.fault is None:
                self.tell("checkpoint_recovered", checkpoint=outcome.step)
            else:
                self.tell("checkpoint_failed", checkpoint=outcome.step, reason=outcome.fault)

    @contextmanager
    def _clock_stopped(self) -> Iterator[None]:
        """Keep what is done here out of the throughput; the steps before it count to their end."""
        if self.world.device.type == "cuda":
            torch.cuda.synchronize(self.world.device)
        with self.window.speed.paused():
            yield

    def tell(self, event: str, **values: Any) -> None:
        """Write an event of the present step to every sink."""
        self._tell_of(self.state.step, event, values)

    def _tell_of(self, step: int, event: str, values: Mapping[str, Any]) -> None:
        epoch = round(step / self.plan.steps_per_epoch, 4)
        for sink in self.sinks:
            sink.write({"event": event, "step": step, "epoch": epoch, **values})
