"""The training loop with a task that is not classification."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from dense_task import CPU, PerPixel, Squares, dense_trainer

from hornet_train.data.loader import EvalLoader, LoaderSettings
from hornet_train.engine.evaluation_loop import evaluate, with_collective
from hornet_train.engine.task import Loss


class KilledError(Exception):
    pass


def final_tensors(trainer: Any) -> dict[str, torch.Tensor]:
    groups = trainer.state.tensors()
    return {f"{group}:{name}": t.clone() for group, named in groups.items() for name, t in named.items()}


def kill_after(trainer: Any, step: int) -> None:
    def advance(now: int) -> None:
        if now == step:
            raise KilledError

    trainer.advance = advance
    with pytest.raises(KilledError):
        trainer.fit()


def test_a_dense_task_trains_evaluates_and_keeps_the_best(tmp_path: Path) -> None:
    trainer = dense_trainer(tmp_path / "run", total_steps=60)
    best = trainer.fit()
    assert best is not None
    assert best.metric == "pixel_accuracy"
    assert best.value > 85
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    evaluations = [line for line in lines if line["event"] == "eval"]
    assert {line["weights"] for line in evaluations} == {"model", "ema"}
    assert all(line["count"] == 7 for line in evaluations)
    assert best.value == max(line["pixel_accuracy"] for line in evaluations)
    named = (tmp_path / "run/checkpoints/best").read_text().strip()
    assert named == f"step_{best.step:08d}"
    assert (tmp_path / "run/checkpoints" / named / "manifest.json").exists()


@pytest.mark.parametrize("killed_at", [7, 11])
def test_a_resumed_run_equals_the_undisturbed_run(tmp_path: Path, killed_at: int) -> None:
    """Killed in mid-epoch after a checkpoint at step 5 or 10; resumed with other worker counts."""
    undisturbed = dense_trainer(tmp_path / "undisturbed")
    undisturbed.fit()
    kill_after(dense_trainer(tmp_path / "killed", workers=1), killed_at)
    resumed = dense_trainer(tmp_path / "killed", workers=2)
    assert 0 < resumed.state.step < killed_at
    resumed.fit()
    assert resumed.state.step == undisturbed.state.step == 12
    assert resumed.state.best == undisturbed.state.best
    torch.testing.assert_close(final_tensors(resumed), final_tensors(undisturbed), rtol=0, atol=0)


def test_micro_batches_equal_one_batch(tmp_path: Path) -> None:
    """8 = 2 x 4 = 4 x 2 (and 8 = 3 + 3 + 2), also in the last step of an epoch, which has 6 images.

    The task draws by micro-batch on the host, so that draw is taken out here.
    """

    class Steady(PerPixel):
        def loss(self, model: Any, batch: Any, _rng: Any) -> Loss:
            class Zero:
                def random(self) -> float:
                    return 0.0

            return super().loss(model, batch, Zero())  # type: ignore[arg-type]

    results = []
    for micro in (8, 4, 2, 3):
        trainer = dense_trainer(tmp_path / str(micro), micro_batch_size=micro, drop_path=0.0, total_steps=6)
        trainer.task = Steady()
        trainer.fit()
        lines = (tmp_path / str(micro) / "metrics.jsonl").read_text().splitlines()
        losses = [(e["loss"], e["grad_norm"]) for e in map(json.loads, lines) if e["event"] == "train"]
        assert len(losses) == 6
        results.append((final_tensors(trainer), torch.tensor(losses)))
    for tensors, losses in results[1:]:
        torch.testing.assert_close(losses, results[0][1], rtol=2e-5, atol=1e-6)
        torch.testing.assert_close(tensors, results[0][0], rtol=2e-4, atol=2e-5)


def test_the_gradient_is_clipped_once_a_step(tmp_path: Path) -> None:
    """With SGD of rate 1 the update is the clipped gradient itself, whatever the number of micro-batches."""
    trainer = dense_trainer(tmp_path / "run", micro_batch_size=2, total_steps=1)
    trainer.settings = type(trainer.settings)(**{**vars(trainer.settings), "clip_grad": 1e-3})
    groups = [
        {"params": [p], "lr": 0.0, "lr_scale": 1.0, "names": [n]}
        for n, p in trainer.state.model.named_parameters()
    ]
    trainer.state.optimizer = torch.optim.SGD(groups)
    trainer.schedule = lambda _step: 1.0
    before = [p.detach().clone() for p in trainer.state.model.parameters()]
    trainer.fit()
    moved = torch.cat(
        [(p - b).flatten() for p, b in zip(trainer.state.model.parameters(), before, strict=True)]
    )
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-3)


def test_evaluations_do_not_change_the_training(tmp_path: Path) -> None:
    """More evaluations or none: the same weights, and the model is training again afterwards."""
    often = dense_trainer(tmp_path / "often", total_steps=4)
    often.settings = type(often.settings)(**{**vars(often.settings), "eval_every": 1})
    often.fit()
    never = dense_trainer(tmp_path / "never", total_steps=4)
    never.eval_data = None
    assert never.fit() is None
    torch.testing.assert_close(final_tensors(often), final_tensors(never), rtol=0, atol=0)
    assert often.state.model.training


@pytest.mark.parametrize("batch_size", [1, 3, 7, 50])
def test_an_evaluation_does_not_depend_on_its_batches(batch_size: int) -> None:
    torch.manual_seed(1)
    task = PerPixel()
    model = task.build_model()
    squares = Squares(7, seed=6)
    data = EvalLoader(squares, squares, LoaderSettings(CPU.device))
    one = evaluate(task, {"a": model, "b": model}, data.batches(0, 1, 7), world=CPU, precision="fp32")["b"]
    other = evaluate(task, {"a": model}, data.batches(0, 1, batch_size), world=CPU, precision="fp32")["a"]
    assert other == pytest.approx(one, rel=1e-5)
    assert other["count"] == 7


@pytest.mark.parametrize("count", [0, 1, 4, 6])
def test_a_collective_is_called_equally_often_for_any_number_of_batches(count: int) -> None:
    events: list[object] = []
    squares = Squares(count, seed=6)
    data = EvalLoader(squares, squares, LoaderSettings(CPU.device))
    for loaded in with_collective(data.batches(0, 1, 1), 4, lambda: events.append("call")):
        events.append(len(loaded.batch["image"]))  # noqa: PERF401 - with calls between them
    assert events == ["call", 1] * min(count, 4) + [1] * (count - 4) + ["call"] * (4 - count)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_reduced_precision_trains(tmp_path: Path, precision: Any) -> None:
    trainer = dense_trainer(tmp_path / "run", total_steps=30)
    trainer.settings = type(trainer.settings)(**{**vars(trainer.settings), "precision": precision})
    if precision == "fp16":
        from hornet_train.engine.precision import loss_scaler

        trainer.state.scaler = loss_scaler("fp16", CPU.device)
    best = trainer.fit()
    assert best is not None
    assert best.value > 75
    assert all(parameter.dtype == torch.float32 for parameter in trainer.state.model.parameters())
