"""A run that is stopped or killed and resumed equals an undisturbed run: the same bits, the same events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from dense_task import CPU, EventFile, PerPixel, Squares, dense_trainer, scaled
from helpers import comparable, events
from torch import Tensor, nn

from hornet_train.data.loader import LoaderSettings, TrainLoader
from hornet_train.data.sources.source import Fields
from hornet_train.engine.checkpoint import CheckpointStore, read_checkpoint
from hornet_train.engine.guard import GuardSettings
from hornet_train.engine.preemption import Stop
from hornet_train.engine.recovery import fall_back_to_saved_best
from hornet_train.engine.state import TrainState
from hornet_train.engine.task import Loss
from hornet_train.engine.trainer import Trainer
from hornet_train.errors import Preempted, SampleError
from hornet_train.track.sinks import rewind

STEPS = 24
DAMAGED = (3, 11)  # training samples that cannot be read


class KilledError(Exception):
    pass


@dataclass(frozen=True)
class SomeDamaged(Squares):
    """Squares of which two cannot be read."""

    def read(self, index: int) -> Fields:
        if index in DAMAGED:
            raise SampleError(f"square {index}", "it is damaged")
        return super().read(index)


@dataclass(frozen=True)
class Faulty(PerPixel):
    """The loss of some steps is NaN, each time that they are trained."""

    faults: tuple[int, ...] = ()
    step: Callable[[], int] = int

    def loss(self, model: Any, batch: Any, rng: Any) -> Loss:
        return scaled(super().loss(model, batch, rng), float("nan") if self.step() in self.faults else 1.0)


class Loudest:
    """A monitor: the greatest output of the model and of its first layer."""

    names = ("first", "last")

    def __init__(self, model: nn.Sequential) -> None:
        self.seen = torch.zeros(2)
        for place, layer in enumerate((model[0], model[-1])):
            layer.register_forward_hook(lambda module, _, out, place=place: self.look(module, out, place))

    def look(self, module: nn.Module, out: Tensor, place: int) -> None:
        if module.training:
            self.seen[place] = torch.maximum(self.seen[place], out.detach().abs().max())

    def read(self) -> Tensor:
        return self.seen.clone()

    def restart(self, greatest: Mapping[str, float]) -> None:
        self.seen = torch.tensor([greatest.get(name, 0.0) for name in self.names])


class Asked(Stop):
    """Asks to stop when `now` returns True."""

    def __init__(self, now: Callable[[], bool]) -> None:
        super().__init__()
        self.now = now

    def due(self) -> str | None:
        return "a test" if self.now() else None


def made(folder: Path, *, faults: tuple[int, ...] = (), window: int = 500, **how: Any) -> Trainer:
    """The run, resumed from its folder if there is one, as the command builds it."""
    how = {"total_steps": STEPS, "log_every": 8, "eval_every": 9, **how}
    trainer = dense_trainer(folder, **how)
    state = trainer.state
    trainer.task = Faulty(0.2, faults=faults, step=lambda: state.step)
    guard = GuardSettings(max_skips=1, max_rollbacks=9, window=window)
    trainer.settings = replace(trainer.settings, guard=guard, max_bad=1)
    squares = SomeDamaged(22, seed=5)
    trainer.train_data = TrainLoader(squares, squares, trainer.plan, LoaderSettings(CPU.device))  # type: ignore[arg-type]
    trainer.monitor = Loudest(state.model)  # type: ignore[arg-type]
    trainer.__post_init__()
    fall_back_to_saved_best(state, trainer.store, CPU)
    again = frozenset({"rollback", *(["eval"] if trainer.evaluation_due else [])})
    rewind(folder / "metrics.jsonl", state.step, again=again, rollbacks=state.fault_history.rollbacks)
    trainer.sinks = [EventFile(folder / "metrics.jsonl")]
    return trainer


When = Callable[[Trainer, int], bool]  # with the step at which this process began


def at(step: int) -> When:
    """Stop after a step, or within its evaluation."""
    return lambda trainer, _: trainer.state.step == step


def after(step: int) -> When:
    """Stop after a step and its evaluation."""
    return lambda trainer, _: trainer.state.step == step and not trainer.evaluation_due


def soon(trainer: Trainer, begun: int) -> bool:
    """Stop after the first step of this process."""
    return trainer.state.step > begun and not trainer.evaluation_due


def disturbed(folder: Path, stops: list[When], **how: Any) -> tuple[Trainer, int]:
    """A run that is stopped by the first of `stops`, resumed, stopped by the next one, and so on to its end;
    and how often it was stopped: it never comes to a step that is left out."""
    count = 0
    for when in [*stops, lambda *_: False]:
        trainer = made(folder, **how)
        begun = trainer.state.step
        trainer.stop = Asked(lambda when=when, trainer=trainer, begun=begun: when(trainer, begun))  # type: ignore[misc]
        try:
            trainer.fit()
            break
        except Preempted:
            count += 1
    return trainer, count


def check_same(folder: Path, trainer: Trainer, whole: Path, undisturbed: Trainer) -> None:
    assert comparable(folder) == comparable(whole)
    torch.testing.assert_close(trainer.state.tensors(), undisturbed.state.tensors(), rtol=0, atol=0)
    assert trainer.state.numbers() == undisturbed.state.numbers()
    ours, theirs = (sorted(path.name for path in (f / "checkpoints").iterdir()) for f in (folder, whole))
    assert ours == theirs


STOPS: dict[str, list[When]] = {
    "early": [at(2)],
    "between two events": [at(7)],
    "between two checkpoints": [at(12)],
    "in an evaluation, and twice in another": [at(9), at(18), at(18)],
    "after an evaluation": [after(9)],
    "with a checkpoint, and with an event": [at(5), at(16)],
    "in the last evaluation": [at(STEPS)],
    "several between two checkpoints": [at(11), at(12), at(13)],
    "after every step": STEPS * [soon],
}


@pytest.mark.parametrize(
    ("faults", "keep"),
    [
        ((), 2),
        ((13,), 1),
        ((13, 14), 2),  # back to step 10, and then to the one before it
        ((3,), 1),  # before the first checkpoint
        ((6, 13, 14, 21), 2),
    ],
)
def test_a_run_that_was_stopped_equals_the_undisturbed_one(
    tmp_path: Path, faults: tuple[int, ...], keep: int
) -> None:
    undisturbed = made(tmp_path / "whole", faults=faults, keep=keep)
    undisturbed.fit()
    assert len(events(tmp_path / "whole", "rollback")) == len(faults)
    assert {event["index"] for event in events(tmp_path / "whole", "bad_sample")} == set(DAMAGED)
    counts = {}
    for name, stops in STOPS.items():
        trainer, counts[name] = disturbed(tmp_path / name, stops, faults=faults, keep=keep)
        check_same(tmp_path / name, trainer, tmp_path / "whole", undisturbed)
    assert sum(map(bool, counts.values())) >= len(STOPS) - 3
    assert counts["after every step"] >= 12


@pytest.mark.parametrize("faults", [(), (13, 14)])
def test_a_run_that_was_killed_equals_the_undisturbed_one(tmp_path: Path, faults: tuple[int, ...]) -> None:
    """Killed between two checkpoints and two events, before a bad step, and just after going back."""
    undisturbed = made(tmp_path / "whole", faults=faults)
    undisturbed.fit()
    for killed_at in (4, 7, 12, 15, 17):
        folder = tmp_path / str(killed_at)
        trainer = made(folder, faults=faults)

        def advance(step: int, killed_at: int = killed_at) -> None:
            if step == killed_at:
                raise KilledError

        trainer.advance = advance
        with pytest.raises(KilledError):
            trainer.fit()
        trainer = made(folder, faults=faults)
        assert trainer.state.step < killed_at
        trainer.fit()
        check_same(folder, trainer, tmp_path / "whole", undisturbed)


def test_what_was_given_up_is_reported_of_after_a_stop_too(tmp_path: Path) -> None:
    """Step 14 sends the run back to step 10; it makes the steps 11 and 12 again, and is stopped after one."""
    how = {"faults": (13,), "window": 2, "log_every": 1}
    whole = made(tmp_path / "whole", **how)
    whole.fit()
    assert whole.state.fault_history.left_out == [(12, 14)]
    (skipped,) = events(tmp_path / "whole", "skipped_step")
    assert skipped["step"] == 14
    for step in (11, 12):
        folder = tmp_path / str(step)
        trainer, count = disturbed(
            folder,
            [
                lambda trainer, _, step=step: (
                    trainer.state.fault_history.rollbacks and trainer.state.step == step
                )
            ],  # type: ignore[misc]
            **how,
        )
        assert count == 1
        check_same(folder, trainer, tmp_path / "whole", whole)


def test_an_event_shows_of_the_steps_before_a_stop(tmp_path: Path) -> None:
    """Their mean is that of the single steps, and so is the greatest value."""
    single = made(tmp_path / "single", log_every=1)
    single.fit()
    disturbed(tmp_path / "run", [at(2), at(6), at(11)])
    steps = events(tmp_path / "single", "train")
    for event in events(tmp_path / "run", "train"):
        window = steps[event["step"] - 8 : event["step"]]
        sizes = [single.plan.step_size(one["step"] - 1) for one in window]
        mean = sum(one["loss"] * size for one, size in zip(window, sizes, strict=True)) / sum(sizes)
        assert event["loss"] == pytest.approx(mean, rel=1e-9)
        assert event["grad_norm"] == window[-1]["grad_norm"]
        for name in Loudest.names:
            assert event[name] == max(one[name] for one in window)


def test_going_back_restores_the_sums_for_the_next_event(tmp_path: Path) -> None:
    """From step 7 back to step 5: the event of step 8 is over steps 1 to 5 and 8."""
    trainer = made(tmp_path / "run", faults=(6,), total_steps=16)
    trainer.fit()
    single = made(tmp_path / "single", faults=(6,), total_steps=16, log_every=1)
    single.fit()
    losses = {e["step"]: e["loss"] for e in events(tmp_path / "single", "train") if e["loss"] is not None}
    (event,) = (e for e in events(tmp_path / "run", "train") if e["step"] == 8)
    made_steps = [1, 2, 3, 4, 5, 8]
    sizes = [trainer.plan.step_size(step - 1) for step in made_steps]
    mean = sum(losses[step] * size for step, size in zip(made_steps, sizes, strict=True)) / sum(sizes)
    assert event["loss"] == pytest.approx(mean, rel=1e-9)


def test_a_run_never_goes_back_to_a_checkpoint_of_a_stop(tmp_path: Path) -> None:
    trainer = made(tmp_path / "run", faults=(13,))
    trainer.stop = Asked(lambda: trainer.state.step == 12)
    with pytest.raises(Preempted):
        trainer.fit()
    store = CheckpointStore(tmp_path / "run/checkpoints", keep=2)
    assert [path.name for path in store.step_folders()] == [f"step_{step:08d}" for step in (9, 10, 12)]
    assert [read_checkpoint(path).numbers["scheduled"] for path in store.step_folders()] == [9, 10, 10]
    newest, _ = store.newest()
    assert newest is not None
    assert newest.name == "step_00000012"
    assert store.rollback_target(13) == (10, tmp_path / "run/checkpoints/step_00000010")
    assert store.rollback_target(13, avoid=[10]) == (9, tmp_path / "run/checkpoints/step_00000009")


def test_a_scheduled_checkpoint_stays_scheduled_when_a_stop_writes_it_again(tmp_path: Path) -> None:
    """Stopped twice in the evaluation of a step whose checkpoint was scheduled."""
    how = {"eval_every": 10}
    for _ in range(2):
        trainer = made(tmp_path / "run", **how)
        trainer.stop = Asked(lambda trainer=trainer: trainer.state.step == 10 and trainer.evaluation_due)  # type: ignore[misc]
        with pytest.raises(Preempted):
            trainer.fit()
        assert CheckpointStore(tmp_path / "run/checkpoints", keep=2).rollback_target(12) is not None
        numbers = read_checkpoint(tmp_path / "run/checkpoints/step_00000010").numbers
        assert numbers["scheduled"] == 10


def test_tensors_come_in_the_same_order_however_a_file_was_read(tmp_path: Path) -> None:
    """Ranks that gather sharded moments in different orders would mix them up."""
    trainer = made(tmp_path / "run", total_steps=5)
    trainer.fit()
    groups = trainer.state.tensors()
    shuffled = {**groups, "optimizer": dict(reversed(groups["optimizer"].items()))}
    trainer.state.restore(shuffled, trainer.state.numbers())
    assert list(trainer.state.tensors()["optimizer"]) == list(groups["optimizer"])


def test_a_checkpoint_of_an_older_version_is_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no sums for the next event, which begin at 0, and it counts as scheduled."""
    numbers = TrainState.numbers

    def older(state: TrainState) -> dict[str, Any]:
        return {key: value for key, value in numbers(state).items() if key not in ("unlogged", "scheduled")}

    with monkeypatch.context() as patched:
        patched.setattr(TrainState, "numbers", older)
        trainer = made(tmp_path / "run")
        trainer.stop = Asked(lambda: trainer.state.step == 6)
        with pytest.raises(Preempted):
            trainer.fit()
    assert trainer.store.rollback_target(7) == (6, tmp_path / "run/checkpoints/step_00000006")
    made(tmp_path / "run").fit()
    single = made(tmp_path / "single", log_every=1)
    single.fit()
    (seventh, eighth) = (e for e in events(tmp_path / "single", "train") if e["step"] in (7, 8))
    (event,) = (e for e in events(tmp_path / "run", "train") if e["step"] == 8)
    sizes = [single.plan.step_size(step) for step in (6, 7)]
    mean = (seventh["loss"] * sizes[0] + eighth["loss"] * sizes[1]) / sum(sizes)
    assert event["loss"] == pytest.approx(mean, rel=1e-9)
