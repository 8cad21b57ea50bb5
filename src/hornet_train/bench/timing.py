"""Contenders that take turns in one process, so that what slows the machine down slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median

import torch


def take_turns(
    contenders: Mapping[str, Callable[[], object]], rounds: int, *, warm_up: int = 1, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each call; every round calls each contender once, every other round in reverse.

    Args:
        contenders: name -> what is timed.
        rounds: calls of each that count.
        warm_up: calls of each before these.
        device: that the calls work on; waited for before the clock is read.
    """
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for round_ in range(-warm_up, rounds):
        for name in reversed(list(contenders)) if round_ % 2 else contenders:
            wait_for(device)
            begin = time.perf_counter()
            contenders[name]()
            wait_for(device)
            if round_ >= 0:
                taken[name].append(time.perf_counter() - begin)
    return taken


def ratio(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """How many times as fast as theirs ours is: the median of the rounds' ratios, the least, the greatest."""
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return median(ratios), min(ratios), max(ratios)


def wait_for(device: torch.device) -> None:
    """Until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
