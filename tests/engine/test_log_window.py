"""What is summed up for a `train` event, over ranks and over interruptions."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import pytest
import torch
from dense_task import CPU
from torch import Tensor

from hornet_train.engine.distributed import World
from hornet_train.engine.log_window import LogWindow
from hornet_train.engine.step import StepResult
from hornet_train.engine.unlogged import Unlogged

NAN = float("nan")


class Pair:
    """Two ranks in two threads, whose greatest values are taken as Gloo does: it loses a NaN of rank 1."""

    def __init__(self) -> None:
        self.sent: dict[int, Tensor] = {}
        self.barrier = threading.Barrier(2, timeout=60)

    def greatest(self, rank: int, tensor: Tensor) -> None:
        self.sent[rank] = tensor.clone()
        self.barrier.wait()
        one, other = self.sent[0], self.sent[1]
        tensor.copy_(torch.where(one < other, other, one))
        self.barrier.wait()


@dataclass(frozen=True)
class OneOfTwo(World):
    pair: Pair = field(default_factory=Pair)

    def all_reduce(self, tensor: Tensor, how: Literal["sum", "max"] = "sum") -> None:
        assert how == "max"
        self.pair.greatest(self.rank, tensor)


class Watched:
    """A monitor that is told what it has seen."""

    names = ("a", "b", "c")

    def __init__(self, *seen: float) -> None:
        self.content = self.seen = torch.tensor(seen)

    def read(self) -> Tensor:
        return self.seen.clone()

    def restart(self, greatest: Mapping[str, float]) -> None:
        start = torch.tensor([greatest.get(name, 0.0) for name in self.names])
        self.seen = torch.maximum(start, self.content)


def result(loss: float, norm: float, skipped: float = 0.0) -> StepResult:
    value = torch.tensor(loss)
    rest = (value[None], torch.tensor(norm), value[None], ("w",), torch.tensor(skipped))
    return StepResult(value, torch.tensor(2.5), {"loss_a": value / 3}, *rest)


def test_a_skipped_step_leaves_nothing_even_if_its_weight_is_not_finite() -> None:
    window, alone = LogWindow(CPU, dict), LogWindow(CPU, dict)
    for one in (window, alone):
        one.add(result(1.0, 2.0), 24)
    window.add(replace(result(math.nan, 3.0, skipped=1.0), weight=torch.tensor(math.nan)), 24)
    assert window.read() == alone.read()


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_window_that_is_cut_in_two_has_the_same_sums_to_the_bit(cut: int) -> None:
    """Its losses are such that the order in which they are added up shows."""
    steps = [result(10.0 ** (3 * (step % 5)) / 3, step / 7, skipped=float(step == 8)) for step in range(9)]
    whole = LogWindow(CPU, dict)
    begun = LogWindow(CPU, dict)
    for step in steps:
        whole.add(step, 24)
    for step in steps[:cut]:
        begun.add(step, 24)
    kept = Unlogged.from_json(json.loads(json.dumps(asdict(begun.read()))))
    after = LogWindow(CPU, dict, resumed=kept)
    for step in steps[cut:]:
        after.add(step, 24)
    assert begun.read() == kept  # reading changes nothing
    assert after.read() == whole.read()
    assert whole.read().weight == 8 * 2.5
    assert whole.read().parts.keys() == {"loss_a"}
    assert whole.read().grad_norm == torch.tensor(1.0).item()


def test_the_greatest_of_two_ranks_is_reported_and_a_nan_of_either() -> None:
    pair = Pair()

    def read(rank: int, *seen: float) -> dict[str, float]:
        world = OneOfTwo(rank, 2, torch.device("cpu"), pair=pair)
        return LogWindow(world, dict, Watched(*seen)).read().greatest

    with ThreadPoolExecutor(2) as ranks:
        asked = [ranks.submit(read, 0, 1.0, 5.0, NAN), ranks.submit(read, 1, 2.0, NAN, 1.0)]
        for greatest in [rank.result(timeout=60) for rank in asked]:
            assert greatest["a"] == 2.0
            assert math.isnan(greatest["b"])
            assert math.isnan(greatest["c"])
