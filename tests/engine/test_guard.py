"""Bad steps are skipped without a trace; after several the run goes back and leaves steps out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from dense_task import CPU, PerPixel, dense_trainer, scaled
from gpu import GPU, NEEDS_GPU
from helpers import events
from torch import nn

from hornet_train.engine.distributed import World
from hornet_train.engine.fault_history import FaultHistory
from hornet_train.engine.guard import Guard, GuardSettings, norm_by_stage, stage_of
from hornet_train.engine.precision import loss_scaler
from hornet_train.engine.recovery import fall_back_to_saved_best
from hornet_train.engine.state import Best
from hornet_train.engine.step import StepResult
from hornet_train.engine.task import Loss
from hornet_train.engine.trainer import Trainer
from hornet_train.errors import CheckpointError, DivergenceError
from hornet_train.optim.groups import parameter_groups
from hornet_train.optim.optimizers import adamw

NAN, INF = float("nan"), float("inf")


class Faulty(PerPixel):
    """Multiplies the loss of some steps by a factor, each time that they are trained."""

    def __init__(self, factors: dict[int, float], step: Callable[[], int]) -> None:
        super().__init__(drop_path=0.2)
        object.__setattr__(self, "factors", factors)
        object.__setattr__(self, "step", step)

    def loss(self, model: Any, batch: Any, rng: Any) -> Loss:
        factor = self.factors.get(self.step(), 1.0)  # type: ignore[attr-defined]
        return scaled(super().loss(model, batch, rng), factor)


def faulty(trainer: Trainer, factors: dict[int, float], **guard: Any) -> Trainer:
    trainer.task = Faulty(factors, lambda: trainer.state.step)
    trainer.settings = type(trainer.settings)(
        **{**vars(trainer.settings), "guard": GuardSettings(**{"max_skips": 3, **guard})}
    )
    trainer.__post_init__()
    return trainer


def tensors(trainer: Trainer) -> dict[str, torch.Tensor]:
    groups = trainer.state.tensors()
    return {f"{group}:{name}": t.clone() for group, named in groups.items() for name, t in named.items()}


def without(folder: Path, *left_out: tuple[int, int], world: World = CPU) -> dict[str, torch.Tensor]:
    """The final tensors of a run that leaves some steps out from the start."""
    trainer = dense_trainer(folder, world=world)
    trainer.state.fault_history.left_out = list(left_out)
    trainer.fit()
    return tensors(trainer)


@pytest.mark.parametrize("world", [CPU, pytest.param(GPU, marks=NEEDS_GPU)], ids=["cpu", "gpu"])
@pytest.mark.parametrize("implementation", ["fused", "foreach", "loop"])
@pytest.mark.parametrize("factor", [NAN, INF, -INF])
def test_a_skipped_step_equals_one_left_out(
    tmp_path: Path, implementation: Any, factor: float, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    ends = []
    for name in ("skipped", "left out"):
        trainer = dense_trainer(tmp_path / name, world=world)
        groups = parameter_groups(trainer.state.model.named_parameters(), weight_decay=0.05)
        trainer.state.optimizer = adamw(groups, betas=(0.9, 0.999), eps=1e-8, implementation=implementation)
        if name == "skipped":
            faulty(trainer, {0: factor, 6: factor})
        else:
            trainer.state.fault_history.left_out = [(0, 1), (6, 7)]
        trainer.fit()
        ends.append(tensors(trainer))
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)
    one, other = events(tmp_path / "skipped", "skipped_step")
    assert (one["step"], other["step"]) == (1, 7)
    assert other["reason"] == "the loss is not finite"
    assert other["loss"] is None
    seen = [a.index for micro in trainer.plan.addresses(6) for a in micro]  # type: ignore[attr-defined]
    assert other["samples"] == seen
    assert set(other["norms"]) == {"0", "1.0", "3"}
    losses = [event["loss"] for event in events(tmp_path / "skipped", "train")]
    assert losses.count(None) == 2  # of windows of one step: nothing else was counted


def test_the_event_has_the_samples_of_the_bad_micro_batch(tmp_path: Path) -> None:
    trainer = faulty(dense_trainer(tmp_path / "run", micro_batch_size=2), {})
    second = trainer.plan.addresses(4)[1]  # type: ignore[attr-defined]
    original, micro = PerPixel.loss, iter([False, True, False, False])

    class OneBad(PerPixel):
        def loss(self, model: Any, batch: Any, rng: Any) -> Loss:
            bad = trainer.state.step == 4 and next(micro)
            return scaled(original(self, model, batch, rng), NAN if bad else 1.0)

    trainer.task = OneBad()
    trainer.fit()
    (event,) = events(tmp_path / "run", "skipped_step")
    assert event["samples"] == [address.index for address in second]
    assert event["ranks"] == [0]


def test_running_statistics_of_a_skipped_step_are_undone(tmp_path: Path) -> None:
    class Normed(PerPixel):
        def build_model(self) -> nn.Module:
            return nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1))

        def loss(self, model: Any, batch: Any, rng: Any) -> Loss:
            poisoned = batch["image"] * (NAN if trainer.state.step == 3 else 1.0)
            return super().loss(model, {**batch, "image": poisoned}, rng)

    trainer = dense_trainer(tmp_path / "run", task=Normed(), total_steps=6)
    trainer.fit()
    assert len(events(tmp_path / "run", "skipped_step")) == 1
    values = tensors(trainer)
    assert values["model:1.num_batches_tracked"].item() > 0
    assert all(value.isfinite().all() for value in values.values())


@pytest.mark.parametrize("world", [CPU, pytest.param(GPU, marks=NEEDS_GPU)], ids=["cpu", "gpu"])
def test_after_three_in_a_row_the_run_goes_back_and_leaves_them_out(
    tmp_path: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints after 5, 6 (a new best) and 10 steps; the steps 7, 8, 9 fail, counted from 0."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    trainer = faulty(dense_trainer(tmp_path / "run", world=world), dict.fromkeys((7, 8, 9), NAN))
    trainer.fit()
    whole = without(tmp_path / "whole", (6, 10), world=world)
    torch.testing.assert_close(tensors(trainer), whole, rtol=0, atol=0)
    (event,) = events(tmp_path / "run", "rollback")
    assert (event["step"], event["failed_at"], event["left_out"]) == (6, 10, [7, 10])
    assert [e["step"] for e in events(tmp_path / "run", "skipped_step")] == [8, 9, 10]


def test_at_most_guard_window_steps_are_left_out(tmp_path: Path) -> None:
    trainer = faulty(dense_trainer(tmp_path / "run"), dict.fromkeys((7, 8, 9), NAN), window=3)
    trainer.fit()
    torch.testing.assert_close(tensors(trainer), without(tmp_path / "whole", (7, 10)), rtol=0, atol=0)


def test_a_run_whose_last_steps_are_left_out_ends_with_evaluation_and_checkpoint(tmp_path: Path) -> None:
    trainer = faulty(dense_trainer(tmp_path / "run"), dict.fromkeys((9, 10, 11), NAN))
    trainer.fit()
    assert trainer.state.step == 12
    assert (tmp_path / "run/checkpoints/last").read_text().strip() == "step_00000012"
    assert [event["step"] for event in events(tmp_path / "run", "eval")] == [6, 6, 12, 12]
    resumed = dense_trainer(tmp_path / "run")
    assert resumed.state.step == 12
    torch.testing.assert_close(tensors(resumed), tensors(trainer), rtol=0, atol=0)


def test_before_the_first_checkpoint_the_run_goes_back_to_the_start(tmp_path: Path) -> None:
    trainer = faulty(dense_trainer(tmp_path / "run"), dict.fromkeys((1, 2, 3), NAN))
    trainer.fit()
    torch.testing.assert_close(tensors(trainer), without(tmp_path / "whole", (0, 4)), rtol=0, atol=0)


@pytest.mark.parametrize("killed_at", [6, 9, 11])
def test_a_run_that_goes_back_can_be_killed_at_any_step(tmp_path: Path, killed_at: int) -> None:
    """Before the failure, within it, and after it, where the checkpoint of step 10 was saved in a streak."""
    faults = dict.fromkeys((7, 8, 9), NAN)
    undisturbed = faulty(dense_trainer(tmp_path / "whole"), faults)
    undisturbed.fit()
    killed = faulty(dense_trainer(tmp_path / "run"), faults)

    def advance(step: int) -> None:
        if step == killed_at:
            raise KeyboardInterrupt

    killed.advance = advance
    with pytest.raises(KeyboardInterrupt):
        killed.fit()
    resumed = faulty(dense_trainer(tmp_path / "run"), faults)
    assert resumed.state.step > 0
    resumed.fit()
    torch.testing.assert_close(tensors(resumed), tensors(undisturbed), rtol=0, atol=0)
    assert resumed.state.fault_history == undisturbed.state.fault_history


def test_after_a_spike_the_run_goes_back(tmp_path: Path) -> None:
    trainer = faulty(dense_trainer(tmp_path / "run", total_steps=40), {32: 100.0}, spike=5.0, backoff=0.5)
    trainer.fit()
    (event,) = events(tmp_path / "run", "rollback")
    assert (event["step"], event["failed_at"], event["left_out"]) == (30, 33, [31, 33])
    assert "over 5 times its mean" in event["reason"]
    assert not events(tmp_path / "run", "skipped_step")
    after = [e for e in events(tmp_path / "run", "train") if e["step"] > 33]
    assert after[0]["lr"] == pytest.approx(0.5 * trainer.schedule(33))


def test_repeated_failures_go_further_back_and_end_with_a_diagnosis(tmp_path: Path) -> None:
    faults = dict.fromkeys(range(12, 40), NAN)
    trainer = faulty(dense_trainer(tmp_path / "run", total_steps=40), faults, max_rollbacks=2)
    with pytest.raises(DivergenceError) as stopped:
        trainer.fit()
    first, second = events(tmp_path / "run", "rollback")
    assert (first["step"], second["step"]) == (12, 10)
    message = str(stopped.value)
    for part in (
        "the loss is not finite in steps ",
        "going back to step 12, 10",
        "stage",
        "optim.lr",
        "0 nan",
    ):
        assert part in message


def test_without_max_skips_the_run_never_goes_back(tmp_path: Path) -> None:
    faults = dict.fromkeys(range(3, 12), NAN)
    trainer = faulty(dense_trainer(tmp_path / "run"), faults, max_skips=None)
    trainer.fit()
    assert len(events(tmp_path / "run", "skipped_step")) == 9


def examined(guard: Guard, *numbers: tuple[float, float]) -> list[tuple[int, str]]:
    """Steps and kinds of the bad steps among steps with these losses and norms."""
    start = len(guard._waiting)
    for step, (loss, norm) in enumerate(numbers, start):
        value, unit = torch.tensor(loss), torch.tensor(0.0)
        result = StepResult(value, 1, {}, value[None], torch.tensor(norm), value[None], ("a",), unit)
        guard.add(step, 1, [1], result, [])
    return [(bad.finished.step, bad.kind) for bad in guard.bad_steps(wait=True)]


def test_overflows_are_counted_separately() -> None:
    guard = Guard(GuardSettings(max_skips=2), FaultHistory(), torch.device("cpu"), scaled=True)
    good, overflow, bad = (1.0, 1.0), (1.0, INF), (NAN, NAN)
    assert examined(guard, overflow, overflow, overflow, bad) == [
        *((step, "overflow") for step in range(3)),
        (3, "loss"),
    ]
    assert guard.rollback_cause is None
    assert guard.history.since == 0
    assert examined(guard, good, bad, overflow, bad)[-1] == (3, "loss")
    assert guard.rollback_cause is not None
    assert (guard.history.streak, guard.history.since) == (2, 1)
    for_ever = Guard(GuardSettings(max_skips=2), FaultHistory(), torch.device("cpu"), scaled=True)
    assert len(examined(for_ever, *[overflow] * 40)) == 26
    assert for_ever.rollback_cause is not None


def test_a_best_without_a_checkpoint_is_dropped(tmp_path: Path) -> None:
    trainer = faulty(dense_trainer(tmp_path / "run", total_steps=14), dict.fromkeys((11, 12, 13), NAN))
    trainer.fit()
    target = events(tmp_path / "run", "rollback")[0]["step"]
    assert target == 10
    store = trainer.store
    trainer.state.best = Best(3, "ema", "pixel_accuracy", 99.0)  # of a step that has no checkpoint any more
    fall_back_to_saved_best(trainer.state, store, CPU)
    assert trainer.state.best is None
    trainer.state.best = best = Best(14, "ema", "pixel_accuracy", 99.0)
    fall_back_to_saved_best(trainer.state, store, CPU)
    assert trainer.state.best == best


def test_going_back_on_a_full_disk_ends_with_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hornet_train.engine.checkpoint as checkpoint

    trainer = faulty(dense_trainer(tmp_path / "run", total_steps=40), dict.fromkeys((11, 12, 13), NAN))
    write = checkpoint.write_bytes

    def full(path: Path, data: bytes) -> None:
        if trainer.state.step >= 10 and trainer.guard.rollback_cause is not None:
            raise OSError(28, "No space left on device", str(path))
        write(path, data)

    monkeypatch.setattr(checkpoint, "write_bytes", full)
    with pytest.raises(CheckpointError, match=r"has to go back to step 10, and .*last cannot be changed"):
        trainer.fit()
    monkeypatch.undo()
    resumed = faulty(dense_trainer(tmp_path / "run", total_steps=40), dict.fromkeys((11, 12, 13), NAN))
    assert resumed.state.step == 10
    resumed.fit()
    assert events(tmp_path / "run", "rollback")


def test_fp16_overflows_lower_the_scale_without_going_back(tmp_path: Path) -> None:
    trainer = dense_trainer(tmp_path / "run", total_steps=40)
    trainer.settings = type(trainer.settings)(**{**vars(trainer.settings), "precision": "fp16"})
    trainer.state.scaler = loss_scaler("fp16", CPU.device)
    trainer.__post_init__()
    best = trainer.fit()
    skipped = events(tmp_path / "run", "skipped_step")
    assert all("overflows fp16, loss scale now" in event["reason"] for event in skipped)
    assert not events(tmp_path / "run", "rollback")
    assert best is not None
    assert best.value > 75


def test_steps_of_a_gpu_are_examined_two_steps_later_or_on_wait() -> None:
    guard = Guard(GuardSettings(max_skips=2), FaultHistory(), torch.device("cpu"))
    guard.device = torch.device("cuda")  # with numbers on the CPU, which need no copy
    from hornet_train.engine.guard import FinishedStep

    def finished(step: int, loss: float) -> FinishedStep:
        value = torch.tensor(loss)
        result = StepResult(value, 1, {}, value[None], value, value[None], ("a",), torch.tensor(0.0))
        return FinishedStep(step, 1, [1], result, [], torch.stack([value, torch.ones(()), value]))

    guard._waiting.extend([finished(0, 1.0), finished(1, NAN)])
    assert not list(guard.bad_steps(wait=False))
    guard._waiting.extend([finished(2, NAN), finished(3, 1.0)])
    assert [bad.finished.step for bad in guard.bad_steps(wait=False)] == [1]
    assert guard.rollback_cause is None
    assert [bad.finished.step for bad in guard.bad_steps(wait=True)] == [2]
    assert guard.rollback_cause is not None


def test_a_step_in_which_nothing_has_a_weight_does_not_enter_the_mean_loss() -> None:
    guard = Guard(GuardSettings(spike=5.0), FaultHistory(), torch.device("cpu"))
    for step, weight in enumerate([1.0, 0.0, 1.0]):
        loss, norm = torch.tensor(2.0 * weight), torch.tensor(1.0)
        found = StepResult(loss, torch.tensor(weight), {}, loss[None], norm, norm[None], ("a",), 0 * norm)
        guard.add(step, 1, [1], found, [])
    assert not list(guard.bad_steps(wait=True))
    assert (guard.history.seen, guard.history.mean) == (2, 2.0)


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("stages.2.17.gnconv.pws.0.weight", "stages.2"),
        ("downsample_layers.0.1.bias", "downsample_layers.0"),
        ("head.weight", "head"),
        ("layers.1.blocks.3.attn.qkv.weight", "layers.1"),
        ("cls_token", "cls_token"),
        ("0.weight", "0"),
    ],
)
def test_the_stage_of_a_parameter(name: str, stage: str) -> None:
    assert stage_of(name) == stage


def test_norms_add_up_by_stage() -> None:
    assert norm_by_stage({"head.weight": 3.0, "head.bias": 4.0, "stem.0.w": 1.0}) == {
        "head": 5.0,
        "stem.0": 1.0,
    }
