"""deterministic=true: how torch is set up, and an operator that has no deterministic algorithm."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from configs import compose_train
from helpers import TINY
from processes import final
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from hornet_train.engine.task import Loss
from hornet_train.errors import ConfigError
from hornet_train.run.process import set_up_process, torch_errors_in_words
from hornet_train.tasks.classification.task import Classification

DIST = compose_train([]).config.dist


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """No setting reaches the tests that follow."""
    kept = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(kept)
    set_up_process(DIST, torch.device("cpu"), deterministic=False)


def flags() -> tuple[bool, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.deterministic,
        not torch.backends.cudnn.benchmark,
        torch.backends.mkldnn.deterministic,
        torch._inductor.config.deterministic,
    )


def test_the_settings_hold_while_a_task_computes(
    command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    loss, seen = Classification.loss, set()

    def watched(*arguments: object) -> Tensor:
        seen.add(flags())
        return loss(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Classification, "loss", watched)
    for wanted in (True, False):
        seen.clear()
        code, _, err = command(
            "hornet-train",
            *TINY,
            "epochs=1it",
            "schedule.warmup=0it",
            f"deterministic={wanted}",
            f"run_dir={tmp_path}/{wanted}",
        )
        assert code == 0, err
        assert seen == {(wanted,) * 5}


def test_an_operator_without_a_deterministic_algorithm_is_named(
    command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def loss(_task: Classification, model: torch.nn.Module, batch: dict[str, Tensor], _rng: object) -> Loss:
        image: Tensor = batch["image"].float()
        image.put_(torch.zeros(2, dtype=torch.int64), torch.ones(2))  # which of the two stays?
        total: Tensor = model(image).sum()
        return Loss(total)

    monkeypatch.setattr(Classification, "loss", loss)
    one_step = (*TINY, "epochs=1it", "schedule.warmup=0it")
    code, _, err = command("hornet-train", *one_step, f"run_dir={tmp_path}/a")
    assert code == 0, err
    code, _, err = command("hornet-train", *one_step, "deterministic=true", f"run_dir={tmp_path}/b")
    assert code == 2
    assert f"deterministic=true: torch {torch.__version__} has no deterministic put_" in err
    assert "Traceback" not in err


def test_what_cublas_and_nccl_read_is_set_before_they_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CUBLAS_WORKSPACE_CONFIG", "NCCL_NVLS_ENABLE"):
        monkeypatch.delenv(name, raising=False)
    set_up_process(DIST, torch.device("cuda"), deterministic=False)
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    set_up_process(DIST, torch.device("cuda"), deterministic=True)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert os.environ["NCCL_NVLS_ENABLE"] == "0"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    set_up_process(DIST, torch.device("cuda"), deterministic=True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":0:0")
    with pytest.raises(ConfigError, match="CUBLAS_WORKSPACE_CONFIG=:4096:8 or :16:8, not :0:0"):
        set_up_process(DIST, torch.device("cuda"), deterministic=True)


@pytest.mark.parametrize("model", ["hornet_pico_gf", "hornet_pico_7x7"])
def test_nothing_is_read_before_it_is_written(
    model: str, command: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With NaN in all new memory a run is the same, so that it need not be filled."""
    loss = Classification.loss

    def filled(*arguments: object) -> Tensor:
        torch.utils.deterministic.fill_uninitialized_memory = fill
        return loss(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Classification, "loss", filled)
    for fill in (False, True):
        code, _, err = command(
            "hornet-train",
            *TINY,
            f"model={model}",
            "precision=bf16",
            "deterministic=true",
            f"run_dir={tmp_path}/{fill}",
        )
        assert code == 0, err
    torch.testing.assert_close(final(tmp_path / "True"), final(tmp_path / "False"), rtol=0, atol=0)


def test_weights_that_a_step_does_not_use_are_reported_with_the_key() -> None:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model = torch.nn.ModuleDict({"used": torch.nn.Linear(2, 2), "spare": torch.nn.Linear(2, 2)})
        model.forward = model["used"].forward  # type: ignore[method-assign]
        network = DistributedDataParallel(model)
        network(torch.ones(1, 2)).sum().backward()
        with pytest.raises(ConfigError, match=r"dist\.find_unused_parameters=true"), torch_errors_in_words():
            network(torch.ones(1, 2))
    finally:
        dist.destroy_process_group()
    with pytest.raises(ConfigError, match=r"data\.drop_last=true") as alone, torch_errors_in_words():
        torch.nn.BatchNorm2d(3)(torch.zeros(1, 3, 1, 1))
    assert alone.value.of_one_rank
    with pytest.raises(RuntimeError, match="another"), torch_errors_in_words():
        raise RuntimeError("another")
