"""The experiments behind docs/numerics.md: how large gnConv's products become, and what half precision loses.

    python scripts/gate_study.py overflow   # where float16 overflows, by order and scale
    python scripts/gate_study.py rounding   # what bfloat16 and float16 lose, by order
    python scripts/gate_study.py init       # products of the published models at their initialisation
    python scripts/gate_study.py training   # products and divergence of the pico models on the digits
    python scripts/gate_study.py half       # the same in bf16 and fp16, shorter
    python scripts/gate_study.py stabiliser # whether bounding the products saves a divergent training

Needs nothing but hornet-train. On two CPU cores the first three take a minute, the others ten or twenty.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import math
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import timm
import torch
from torch import Tensor

from hornet_train.cli.train import main as hornet_train
from hornet_train.models import GnConv
from hornet_train.models.monitor import GateMonitor

FLOAT16_MAX = torch.finfo(torch.float16).max
WIDTH = 64


def table(columns: tuple[str, ...], rows: Iterator[tuple[object, ...]]) -> None:
    """A Markdown table on stdout, a line as soon as it is known."""
    sys.stdout.write(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n")
    for row in rows:
        sys.stdout.write(f"| {' | '.join(str(value) for value in row)} |\n")
        sys.stdout.flush()


def gnconv(order: int, scale: float) -> GnConv:
    """One whose branches have unit variance for an input of unit variance, gates and all."""
    torch.manual_seed(order)
    layer = GnConv(WIDTH, order=order, scale=scale)
    for module in layer.modules():
        if isinstance(module, torch.nn.Conv2d):
            fan = module.weight[0].numel()
            torch.nn.init.normal_(module.weight, std=1 / math.sqrt(fan))
            torch.nn.init.zeros_(module.bias)
    return layer


def product(layer: GnConv, x: Tensor) -> Tensor:
    """What proj_out gets: the product of all orders."""
    seen: list[Tensor] = []
    hook = layer.proj_out.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].detach()))
    layer(x)
    hook.remove()
    return seen[0]


@torch.no_grad()
def overflow() -> None:
    """The factor on a unit-variance input at which the last product leaves float16.

    The product is of degree order + 1 in the input, so the largest of 32 maps of 14 x 14 tells all factors.
    """
    x = torch.randn(32, WIDTH, 14, 14, generator=torch.Generator().manual_seed(1))

    def rows() -> Iterator[tuple[object, ...]]:
        for order in (1, 2, 3, 4, 5):
            cells: list[object] = [order]
            for scale in (1.0, 1 / 3):
                largest = product(gnconv(order, scale), x).abs().max().item()
                cells += [f"{largest:.3g}", f"{(FLOAT16_MAX / largest) ** (1 / (order + 1)):.1f}"]
            yield tuple(cells)

    table(("order", "s = 1: largest", "overflows at x", "s = 1/3: largest", "overflows at x"), rows())


@torch.no_grad()
def rounding() -> None:
    """Relative error (norm over norm) of gnConv's output under autocast against float64."""
    x = torch.randn(8, WIDTH, 14, 14, generator=torch.Generator().manual_seed(1))

    def run(layer: GnConv, dtype: torch.dtype, gates_in_float32: bool) -> Tensor:
        with torch.autocast("cpu", dtype):
            if not gates_in_float32:
                return layer(x)
            p, q = layer.proj_in(x).split((layer.widths[0], layer.total_width), dim=1)
            gates = layer.dwconv(q) * layer.scale
            with torch.autocast("cpu", enabled=False):
                return layer.gate(p.float(), gates.float())

    def rows() -> Iterator[tuple[object, ...]]:
        for order in (1, 2, 3, 4, 5):
            layer = gnconv(order, 1 / 3)
            half, whole = run(layer, torch.bfloat16, False), run(layer, torch.bfloat16, True)
            fp16 = run(layer, torch.float16, True)
            exact = layer.double()(x.double())
            errors = [(y.double() - exact).norm() / exact.norm() for y in (half, whole, fp16)]
            yield (order, *(f"{100 * error:.2f} %" for error in errors))

    table(("order", "bf16", "bf16, gating in fp32", "fp16, gating in fp32"), rows())


@torch.no_grad()
def init() -> None:
    """The largest product of each stage at the initialisation, normally distributed images."""

    def rows() -> Iterator[tuple[object, ...]]:
        names = ("hornet_tiny_7x7", "hornet_tiny_gf", "hornet_base_gf", "hornet_pico_gf")
        for name, scale in itertools.product(names, (1.0, 1 / 3)):
            torch.manual_seed(0)
            model = timm.create_model(name, scale=scale)
            monitor = GateMonitor(model)
            model.train()(torch.randn(4, *model.default_cfg["input_size"]))
            yield (name, f"{scale:.3g}", *(f"{value:.2g}" for value in monitor.take().tolist()))

    table(("model", "s", "stage 0", "1", "2", "3"), rows())


def training() -> None:
    """Whole trainings of the digits without clipping, in fp32: the largest products, and how they end."""
    names, rates = ("hornet_pico_7x7", "hornet_pico_gf"), (4e-3, 1.6e-2, 6.4e-2, 2.56e-1)
    trainings(itertools.product(names, rates, (1 / 3, 1.0), ("fp32",)), epochs=8)


def half() -> None:
    """The same in half precision, with gating in float32 under fp16."""
    trainings(itertools.product(("hornet_pico_gf",), (4e-3,), (1 / 3, 1.0), ("bf16", "fp16")), epochs=4)


def trainings(cases: Iterable[tuple[str, float, float, str]], epochs: int) -> None:
    def rows() -> Iterator[tuple[object, ...]]:
        for name, rate, scale, precision in cases:
            yield (name, rate, f"{scale:.3g}", precision, *train(name, rate, scale, precision, epochs))

    columns = (
        "model",
        "lr",
        "s",
        "precision",
        "stage 0",
        "1",
        "2",
        "3",
        "last loss",
        "best top-1",
        "skipped",
    )
    table(columns, rows())


def stabiliser() -> None:
    """Whether bounding the products, in the forward pass and so in the backward, makes a divergent run learn.

    Beside it the same network with a plain depthwise convolution in place of gnConv, at the same rate; the
    first rate is between one that is known to work and one that is not.
    """
    limits = {"none": None, "tanh, 100": soft(100.0), "tanh, 10": soft(10.0), "rms, 10": rms(10.0)}
    cases = [(3.2e-2, "null"), (6.4e-2, "null"), (6.4e-2, "1.0"), (2.56e-1, "null")]

    def rows() -> Iterator[tuple[object, ...]]:
        for rate, clip in cases:
            for label, limit in limits.items():
                with limited(limit):
                    yield (rate, clip, label, *train("hornet_pico_7x7", rate, 1 / 3, "fp32", 8, clip))
            yield (rate, clip, "no gating", *train("hornet_pico_7x7", rate, None, "fp32", 8, clip))

    columns = ("lr", "clip_grad", "limit", "stage 0", "1", "2", "3", "last loss", "best top-1", "skipped")
    table(columns, rows())


def soft(cap: float) -> Callable[[Tensor], Tensor]:
    return lambda x: cap * torch.tanh(x / cap)


def rms(cap: float) -> Callable[[Tensor], Tensor]:
    """Scales a pixel whose root mean square over the channels is above `cap` down to it."""
    return lambda x: x * (cap / x.square().mean(1, keepdim=True).sqrt().clamp(min=1e-9)).clamp(max=1.0)


@contextlib.contextmanager
def limited(limit: Callable[[Tensor], Tensor] | None) -> Iterator[None]:
    """gnConv with every product limited."""
    plain = GnConv.gate

    def gate(self: GnConv, p: Tensor, gates: Tensor) -> Tensor:
        assert limit is not None
        branches = gates.split(self.widths, dim=1)
        x = limit(p * branches[0])
        for widen, branch in zip(self.pws, branches[1:], strict=True):
            x = limit(widen(x) * branch)
        return self.proj_out(x)

    GnConv.gate = gate if limit is not None else plain
    try:
        yield
    finally:
        GnConv.gate = plain


def train(
    name: str, rate: float, scale: float | None, precision: str, epochs: int, clip: str = "null"
) -> tuple[object, ...]:
    """One training by hornet-train, in this process, and what its metrics.jsonl says; no scale, no gating."""
    gated = scale is not None
    arguments = [f"model={name}", f"optim.lr={rate}", f"precision={precision}", f"epochs={epochs}"]
    arguments += [f"model.args.scale={scale}", "log.gates=true"] if gated else ["model.args.gating=none"]
    arguments += [f"optim.clip_grad={clip}", "schedule.warmup=1ep", "log.every=1it", "dist.device=cpu"]
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
            hornet_train([*arguments, f"run_dir={folder}/run"])
        lines = Path(folder, "run", "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    steps = [event for event in events if event["event"] == "train"]
    peaks = [f"{max(value(e, f'gate_product_{i}') for e in steps):.2g}" if gated else "-" for i in range(4)]
    best = max(event["top1"] for event in events if event["event"] == "eval")
    skipped = sum(event["count"] for event in events if event["event"] == "skipped_step")
    return (*peaks, f"{value(steps[-1], 'loss'):.2f}", f"{best:.1f}", skipped)


def value(event: dict[str, float], key: str) -> float:
    """A number of an event; one that JSON cannot say is infinite."""
    return math.inf if event[key] is None else event[key]


if __name__ == "__main__":
    experiments: dict[str, Callable[[], None]] = {
        "overflow": overflow,
        "rounding": rounding,
        "init": init,
        "training": training,
        "half": half,
        "stabiliser": stabiliser,
    }
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", choices=experiments)
    experiments[parser.parse_args().experiment]()
