"""Timing of functions that take turns in one process, so that a slower machine slows all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Literal

import torch

Mode = Literal["train", "inference"]


def take_turns(
    contenders: Mapping[str, Callable[[], object]], rounds: int, *, warm_up: int = 1, device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each call, by name. Each round calls every function once, in alternating order.

    Args:
        contenders: name -> the function to time.
        rounds: timed calls of each.
        warm_up: calls of each before the timed ones.
        device: on which the functions work; it is synchronised before the clock is read.
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


@dataclass(frozen=True)
class PartTime:
    """Median seconds of a contender, and how many times as fast as its peer it is: median, from, to."""

    part: str
    mode: Mode
    name: str
    seconds: float
    ratio: tuple[float, float, float]


def part_times(
    part: str,
    mode: Mode,
    calls: Mapping[str, Callable[[], object]],
    peer: str,
    rounds: int,
    device: torch.device,
) -> Iterator[PartTime]:
    """Each contender for a part of a model, in turns; ratios are to the one that is called `peer`."""
    taken = take_turns(calls, rounds, device=device)
    for name, seconds in taken.items():
        yield PartTime(part, mode, name, median(seconds), ratio(seconds, taken[peer]))


def ratio(ours: list[float], theirs: list[float]) -> tuple[float, float, float]:
    """How many times as fast ours is as theirs: median, smallest and largest of the rounds' ratios."""
    ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
    return median(ratios), min(ratios), max(ratios)


def wait_for(device: torch.device) -> None:
    """Block until a GPU has finished its work; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def one_thread() -> Iterator[None]:
    """torch's operators on one thread; several would wait for work in busy loops, on the workers' cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
