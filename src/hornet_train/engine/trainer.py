"""The training loop. It knows a task, its data and a state, but not which task, model or config."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NoReturn

from torch import nn

from hornet_train.data.loader import EvalData, Loaded, TrainData
from hornet_train.data.order import Plan
from hornet_train.engine.background import RETRY_SECONDS_AT_END, RETRY_SECONDS_WHEN_STOPPED
from hornet_train.engine.checkpoint import CheckpointStore
from hornet_train.engine.damage_reports import DamageReports
from hornet_train.engine.distributed import World
from hornet_train.engine.evaluation_loop import EvaluationResults, check_finite, evaluate_state, update_best
from hornet_train.engine.guard import Guard
from hornet_train.engine.log_window import LogWindow
from hornet_train.engine.loop_settings import Settings
from hornet_train.engine.memory_watch import MemoryWatch
from hornet_train.engine.preemption import Stop
from hornet_train.engine.recovery import InitialWeights, Recovery
from hornet_train.engine.saving import RunSaver
from hornet_train.engine.state import Best, TrainState
from hornet_train.engine.step import train_step
from hornet_train.engine.task import Monitor, Task
from hornet_train.engine.unlogged import Unlogged
from hornet_train.errors import Preempted
from hornet_train.optim.schedules import Schedule
from hornet_train.track.metric_table import NO_METRICS, MetricTable
from hornet_train.track.sinks import Sink


@dataclass
class Trainer:
    """A run, ready to continue from the step of its state.

    Attributes:
        network: the state's model as it is trained: compiled, under DDP.
        train_data, eval_data: eval_data is None if the run is not evaluated.
        schedule: the learning rate of a step.
        store: where checkpoints are written; used on rank 0.
        initial_weights: makes the model's initial weights again.
        metrics: of the task; the headline decides which checkpoint is the best.
        damage: reports unreadable samples.
        monitor: adds the greatest of its values over all ranks to `train` events; None for none.
        sinks: where events are written; empty on all ranks but rank 0.
        advance: called after each step with the number of steps done.
        stop: decides after each step, and during evaluations, whether to save and end.
        memory: says which batch did not fit.
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
    initial_weights: InitialWeights
    metrics: MetricTable = NO_METRICS
    monitor: Monitor | None = None
    damage: DamageReports = field(default_factory=DamageReports)
    sinks: list[Sink] = field(default_factory=list)
    advance: Callable[[int], None] = lambda _step: None
    stop: Stop = field(default_factory=Stop)
    memory: MemoryWatch = field(default_factory=MemoryWatch)
    newest_results: EvaluationResults = field(default_factory=dict, init=False)
    window: LogWindow = field(init=False)
    saver: RunSaver = field(init=False)
    guard: Guard = field(init=False)
    recovery: Recovery = field(init=False)

    def __post_init__(self) -> None:
        state, world, settings = self.state, self.world, self.settings
        is_fp16 = settings.precision == "fp16"
        self.guard = Guard(settings.guard, state.fault_history, world.device, scaled=is_fp16)
        self.recovery = Recovery(
            state, self.guard, self.store, world, settings.seed, settings.precision, self.initial_weights
        )

    def fit(self) -> Best | None:
        """Train from the state's step to the last one; returns the best evaluation.

        Raises:
            OutOfMemory: a batch does not fit.
            Preempted: the run was asked to stop, and has saved.
            DataError: an evaluation sample cannot be read, or too many training samples.
            DivergenceError: loss or gradient are not finite, and going back did not help.
            CheckpointError: the last checkpoint cannot be written.
        """
        with self.stop.training(), RunSaver(self.state, self.store, self.world, self.emit) as self.saver:
            self._train()
            self.saver.wait(RETRY_SECONDS_AT_END)
        self.world.watchdog.close()  # from here on no rank waits for another
        check_finite(self.state.step, self.newest_results)
        return self.state.best

    def _train(self) -> None:
        settings, state = self.settings, self.state
        batches = self._batches()
        self.window = self._new_window(state.unlogged)
        self.network.train()
        if self.evaluation_due and self._evaluate():
            self.save()
        first = self._next_step()
        while (step := self._next_step()) < self.total_steps:
            place, seen = state.calendar.at(step)
            sizes, step_size = self.plan.micro_sizes(place, seen), self.plan.step_size(place, seen)
            with self.memory.watched(self.task, f"in step {step + 1}"):
                fed = self.window.timed_batches(islice(batches, len(sizes)), step)
                result = train_step(
                    *(state, self.network, self.task, fed, sizes),
                    step_size=step_size,
                    learning_rate=self._learning_rate(step),
                    seed=settings.seed,
                    precision=settings.precision,
                    clip_grad=settings.clip_grad,
                    world=self.world,
                )
            self.window.add(result, step_size)
            self.guard.add(step, step_size, sizes, result, self.window.retained)
            self.advance(state.step)
            self.saver.emit_outcomes()
            if step == first:
                self.saver.preallocate()  # the optimizer has its moments now
                with self.window.clock_stopped():
                    tried = state, self.network, self.task, settings.precision, self.world, self.monitor
                    self.memory.try_largest(*tried)
            due = any(map(self._due, (settings.log_every, settings.checkpoint_every, settings.eval_every)))
            if self._rolled_back(wait=due or state.fault_history.leaves_out(state.step)):
                batches = self._batches()
                continue
            if self._due(settings.log_every):
                self._log(step)
                self._check_bad_samples()
                self.window = self._new_window()
            if self._due(settings.checkpoint_every):
                self._check_bad_samples()
                self.save()  # before an evaluation, which takes long and may meet a damaged image
            if self.evaluation_due and self._evaluate():
                self.save()
            if state.step < self.total_steps:
                self._stop_if_asked()
        if self.evaluation_due:  # the last steps are left out, so the loop did not come to it
            self._evaluate()
        if self.saver.saved_step != state.step:
            self.save()

    def _next_step(self) -> int:
        """Move past steps that are left out; returns the step to train."""
        self.state.step = self.state.fault_history.next_step(self.state.step, self.total_steps)
        return self.state.step

    def _batches(self) -> Iterator[Loaded]:
        """The micro-batches of all steps to train from here on."""
        history, calendar = self.state.fault_history, self.state.calendar
        for first, end in history.ranges_to_train(self.state.step, self.total_steps):
            place, seen = calendar.at(first)
            yield from self.train_data.batches(place, calendar.place(end), seen)

    @property
    def total_steps(self) -> int:
        """The step at which the run is complete."""
        return self.settings.total_steps + (0 if self.settings.in_steps else self.state.calendar.shift)

    def _learning_rate(self, step: int) -> float:
        place = step if self.settings.in_steps else self.state.calendar.place(step)
        return self.schedule(place) * self.state.fault_history.rate

    def _rolled_back(self, *, wait: bool) -> bool:
        """Examine the finished steps, and go back to a checkpoint after a failure; returns whether it did.

        Args:
            wait: wait for the steps that a GPU has not finished, and examine those too.

        Raises:
            DivergenceError: the run went back too often already.
        """
        for bad in self.guard.bad_steps(wait=wait):
            values = self.recovery.describe(bad)
            if bad.skipped:
                self._emit_at(bad.finished.step + 1, "skipped_step", values)
            if bad is self.guard.rollback_cause:
                self._check_bad_samples()  # those of the window that is given up here
                with self.window.clock_stopped():
                    self.saver.discard()
                    values = self.recovery.go_back(bad, values)
                self.window, self.saver.saved_step = self._new_window(self.state.unlogged), self.state.step
                self.network.train()
                self.emit("rollback", **values)
                return True
        return False

    def _stop_if_asked(self) -> None:
        """Save and end if any rank was asked to stop.

        Losses and damaged samples that are in no event yet are stored in the checkpoint. Emitting them here
        would give them another step than in a run that was not stopped.

        Raises:
            Preempted: the checkpoint is on the disk.
            CheckpointError: it cannot be written.
        """
        if (reason := self.stop.due()) is not None:
            self._save_and_stop(reason)

    def _save_and_stop(self, reason: str) -> NoReturn:
        """See `_stop_if_asked`."""
        self._rolled_back(wait=True)
        if self.saver.saved_step != self.state.step:
            self.save(scheduled=False)
        self.saver.wait(RETRY_SECONDS_WHEN_STOPPED)
        self.emit("preempted", reason=reason)
        raise Preempted(reason, saved=True)

    @property
    def evaluation_due(self) -> bool:
        """Whether the present step is to be evaluated and was not yet: a kill may have prevented it."""
        due = self.state.step > 0 and self._due(self.settings.eval_every)
        return self.eval_data is not None and due and self.state.evaluated < self.state.step

    def _due(self, every: int) -> bool:
        place, seen = self.state.calendar.at(self.state.step)
        return (place % every == 0 and not seen) or self.state.step == self.total_steps

    def _log(self, step: int) -> None:
        """Emit the window's mean loss over all ranks. The host waits for the device here."""
        self.emit("train", **self.window.values(self._learning_rate(step)))

    def _new_window(self, resumed: Unlogged | None = None) -> LogWindow:
        """The window of the steps from here on; `resumed` are earlier steps of it, from a checkpoint."""
        return LogWindow(self.world, self.guard.retained, self.monitor, resumed)

    def _check_bad_samples(self) -> None:
        """Raises DataError if more training samples are damaged than `max_bad` allows."""
        found, known = self.window.take_bad_samples(), self.state.bad_samples
        self.damage.of_training(found, known, self.emit, self.plan.samples, self.settings.max_bad)

    def _evaluate(self) -> bool:
        """Evaluate the model and its average. Returns whether to save: there is a new best, or it is the
        last step."""
        assert self.eval_data is not None

        def before_batch() -> None:
            self.world.watchdog.report(self.state.step, "evaluating")
            if (reason := self.stop.due()) is not None:
                raise Preempted(reason, saved=False)

        try:
            with self.window.clock_stopped():
                results = evaluate_state(
                    self.state,
                    self.task,
                    self.eval_data,
                    batch_size=self.settings.eval_batch_size,
                    precision=self.settings.precision,
                    world=self.world,
                    before_batch=before_batch,
                    report=lambda bad: self.damage.of_evaluation(bad, self.emit),
                )
        except Preempted as asked:  # saved out here: in there sharded weights are gathered, for inference
            self._save_and_stop(asked.reason)
        for weights, metrics in results.items():
            self.emit("eval", weights=weights, **metrics)
        self.newest_results = results
        improved = update_best(self.state, self.metrics.headline, results)
        self.state.evaluated = self.state.step
        return improved or self.state.step == self.total_steps

    def save(self, *, scheduled: bool = True) -> None:
        """Write the state as a checkpoint, in the background; the host waits for the copy only.

        Args:
            scheduled: False if the run was only asked to stop; see `TrainState.scheduled`.
        """
        self.world.watchdog.report(self.state.step, "saving")
        with self.window.clock_stopped():  # it synchronises, so reading the window needs no second wait
            self.saver.save(self.window, scheduled=scheduled)

    def emit(self, event: str, **values: Any) -> None:
        """Write an event of the present step to every sink."""
        self._emit_at(self.state.step, event, values)

    def _emit_at(self, step: int, event: str, values: Mapping[str, Any]) -> None:
        epoch = round(self.state.calendar.epoch(step), 4)
        for sink in self.sinks:
            sink.write({"event": event, "step": step, "epoch": epoch, **values})
