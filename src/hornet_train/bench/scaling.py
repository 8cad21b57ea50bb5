"""How the time of a step grows with batch, image size and gnConv's order; several processes against one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch

from hornet_train.bench.step_times import Case, Contender, Setting, build_step
from hornet_train.bench.timing import ratio, take_turns
from hornet_train.errors import ConfigError
from hornet_train.images.size import height_width
from hornet_train.models.gnconv import GnConv


@dataclass(frozen=True)
class Growth:
    """Time as a function of a size.

    Attributes:
        of: what the size is, and the mode: "batch, train".
        sizes: in the order in which they were asked for.
        seconds: of a step at each size, the median over the rounds.
        relative: seconds at each size over those at the first one, the median of the rounds' ratios.
    """

    of: str
    sizes: list[int]
    seconds: list[float]
    relative: list[float]

    @property
    def fit(self) -> tuple[float, float, float]:
        """(slope, intercept, R^2) of the least-squares line seconds = slope * size + intercept."""
        slope, intercept = np.polyfit(self.sizes, self.seconds, 1)
        left = np.subtract(self.seconds, np.polyval((slope, intercept), self.sizes))
        return float(slope), float(intercept), float(1 - np.var(left) / np.var(self.seconds))

    def as_json(self) -> dict[str, Any]:
        record: dict[str, Any] = {**vars(self)}
        if len(self.sizes) > 2:
            slope, intercept, explained = self.fit
            record |= {"slope": slope, "intercept": intercept, "r2": explained}
        return record


def batch_growth(contender: Contender, case: Case, sizes: Sequence[int], rounds: int) -> Growth:
    """A step at several batch sizes, taking turns."""
    calls = {
        size: _call(contender, Case(case.mode, size, case.image_size, case.precision, case.device))
        for size in sizes
    }
    return _growth(f"batch, {case.mode}", calls, list(sizes), rounds, case.device)


def pixel_growth(build: Callable[[int], Contender], case: Case, sides: Sequence[int], rounds: int) -> Growth:
    """A step at several image sizes, taking turns; `sizes` are the pixels of an image, not its side."""
    calls = {
        side * side: _call(build(side), Case(case.mode, case.batch_size, side, case.precision, case.device))
        for side in sides
    }
    return _growth(f"pixels, {case.mode}", calls, list(calls), rounds, case.device)


def order_growth(case: Case, orders: Sequence[int], *, width: int, side: int, rounds: int) -> Growth:
    """One gnConv at several orders, taking turns, on square maps of `side` pixels with `width` channels."""
    calls = {}
    for order in orders:
        layer = GnConv(width, order=order).to(case.device).to(memory_format=torch.channels_last)
        shape = (case.batch_size, width, side, side)
        x = torch.randn(shape, device=case.device).contiguous(memory_format=torch.channels_last)
        calls[order] = _layer_call(layer, x, case)
    return _growth(f"order, {case.mode}", calls, list(orders), rounds, case.device)


def process_ratios(
    name: str, case: Case, *, processes: int, steps: int, rounds: int
) -> tuple[float, float, float]:
    """Images per second of several one-thread processes, over those of one process with as many threads.

    Args:
        name: of the model, in timm.
        case: its batch size is that of all processes together.
        steps: timed in a round, after the warm-up.

    Returns:
        Median, smallest and largest of the rounds' ratios.

    Raises:
        ConfigError: the batch cannot be split evenly, or a process fails.
    """
    if case.batch_size % processes:
        raise ConfigError([f"batch_size={case.batch_size} cannot be split over {processes} processes"])
    seconds: dict[int, list[float]] = {1: [], processes: []}
    for round_ in range(rounds):
        for count in (1, processes) if round_ % 2 else (processes, 1):
            seconds[count].append(_step_seconds(name, case, count, processes // count, steps))
    return ratio(seconds[processes], seconds[1])


def _step_seconds(name: str, case: Case, processes: int, threads: int, steps: int) -> float:
    """Seconds of a step on this many processes."""
    arguments = json.dumps(
        {
            "model": name,
            "batch_size": case.batch_size // processes,
            "height_width": height_width(case.image_size),
            "precision": case.precision,
            "device": case.device.type,
            "steps": steps,
        }
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    ran = subprocess.run(
        [*command, "-m", "hornet_train.bench.ranks", arguments],
        env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in ran.stdout.splitlines() if line.startswith("seconds ")]
    if ran.returncode or not lines:
        last = (ran.stderr.strip().splitlines() or ["no message"])[-1]
        raise ConfigError([f"{name} on {processes} processes failed: {last}"])
    return float(lines[0].split()[1])


def _call(contender: Contender, case: Case) -> Callable[[], object]:
    return build_step(contender, Setting(channels_last=True, compiled=False), case)


def _layer_call(layer: GnConv, x: torch.Tensor, case: Case) -> Callable[[], object]:
    half = case.precision != "fp32"
    kind = torch.bfloat16 if case.precision == "bf16" else torch.float16
    training = case.mode == "train"
    x.requires_grad_(training)

    def call() -> object:
        with torch.autocast(case.device.type, kind, enabled=half), torch.set_grad_enabled(training):
            out = layer(x)
        if training:
            out.float().sum().backward()
            x.grad = None
            layer.zero_grad(set_to_none=True)
        return out

    return call


def _growth(
    of: str,
    calls: Mapping[int, Callable[[], object]],
    sizes: list[int],
    rounds: int,
    device: torch.device,
) -> Growth:
    taken = take_turns({str(size): call for size, call in calls.items()}, rounds, warm_up=2, device=device)
    first = taken[str(sizes[0])]
    return Growth(
        of,
        sizes,
        [median(taken[str(size)]) for size in sizes],
        [ratio(first, taken[str(size)])[0] for size in sizes],
    )
