"""Turns are fair."""

from __future__ import annotations

import pytest
import torch

from hornet_train.bench.timing import ratio, take_turns


def test_every_round_has_each_once_in_alternating_order() -> None:
    called: list[str] = []
    contenders = {name: (lambda name=name: called.append(name)) for name in "abc"}
    taken = take_turns(contenders, 3, warm_up=1, device=torch.device("cpu"))
    assert {name: len(seconds) for name, seconds in taken.items()} == {"a": 3, "b": 3, "c": 3}
    assert ["".join(called[i : i + 3]) for i in range(0, 12, 3)] == ["cba", "abc", "cba", "abc"]


def test_a_ratio_is_of_rounds() -> None:
    assert ratio([1.0, 2.0, 4.0], [2.0, 2.0, 12.0]) == pytest.approx((2.0, 1.0, 3.0))
