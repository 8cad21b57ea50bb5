"""What is summed up for a `train` event, over ranks and over interruptions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
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


@dataclass(frozen=True)
class WithAnother(World):
    """This rank and one that watched other values. Of two numbers NaN is never the greater, as with Gloo."""

    other: Tensor = field(default_factory=lambda: torch.zeros(0))

    def all_reduce(self, tensor: Tensor, how: Literal["sum", "max"] = "sum") -> None:
        assert how == "max"
        missing = self.other.isnan()
        theirs = torch.stack([self.other.masked_fill(missing, 0.0), missing.float()])
        tensor.copy_(torch.where(theirs > tensor, theirs, tensor))


class Watched:
    """A monitor that is told what it has seen."""

    names = ("a", "b", "c")

    def __init__(self, *seen: float) -> None:
        self.told = self.seen = torch.tensor(seen)

    def read(self) -> Tensor:
        return self.seen.clone()

    def restart(self, greatest: Mapping[str, float]) -> None:
        start = torch.tensor([greatest.get(name, 0.0) for name in self.names])
        self.seen = torch.maximum(start, self.told)


def result(loss: float, norm: float, skipped: float = 0.0) -> StepResult:
    value = torch.tensor(loss)
    rest = (value[None], torch.tensor(norm), value[None], ("w",), torch.tensor(skipped))
    return StepResult(value, torch.tensor(2.5), {"loss_a": value / 3}, *rest)


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
    kept = Unlogged.of(json.loads(json.dumps(asdict(begun.read()))))
    after = LogWindow(CPU, dict, resumed=kept)
    for step in steps[cut:]:
        after.add(step, 24)
    assert begun.read() == kept  # reading changes nothing
    assert after.read() == whole.read()
    assert whole.read().weight == 8 * 2.5
    assert whole.read().parts.keys() == {"loss_a"}
    assert whole.read().grad_norm == torch.tensor(1.0).item()


def test_the_greatest_of_two_ranks_is_told_and_a_nan_of_either() -> None:
    world = WithAnother(0, 2, torch.device("cpu"), other=torch.tensor([2.0, NAN, 1.0]))
    window = LogWindow(world, dict, Watched(1.0, 5.0, NAN))
    greatest = window.read().greatest
    assert greatest["a"] == 2.0
    assert torch.tensor([greatest["b"], greatest["c"]]).isnan().all()
