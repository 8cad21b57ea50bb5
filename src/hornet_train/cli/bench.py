"""`hornet-bench`: how fast the models and the training loop are, compared with others."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NoReturn

from hornet_train.cli.bench_common import (
    before_torch,
    check_model,
    console_sink,
    precision_of,
    write_figures,
)
from hornet_train.cli.bench_dense import detectors, heads
from hornet_train.cli.bench_service import service
from hornet_train.cli.command import run_command
from hornet_train.cli.help import answer_bench_questions
from hornet_train.config.bench_schema import LimitBench, LoopBench, ScalingBench, StepBench
from hornet_train.config.compose_info import compose_bench
from hornet_train.errors import ConfigError, did_you_mean
from hornet_train.images.size import brief

if TYPE_CHECKING:
    from hornet_train.bench.step_times import Contender


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script."""
    run_command(_work, answer_bench_questions, arguments)


def _work(arguments: list[str]) -> None:
    name, *overrides = arguments
    if name not in BENCHES:
        raise ConfigError(f"hornet-bench has no {name!r}: {did_you_mean(name, BENCHES)}")
    BENCHES[name](overrides)


def _in_runtimes(config: StepBench, contenders: Sequence[Contender]) -> list[Contender]:
    """The models, not their peers, in each of the runtimes.

    Raises:
        ConfigError: a package is missing, or nothing is inferred.
    """
    if not config.runtimes:
        return []
    if "inference" not in config.modes:
        raise ConfigError(["runtimes= are for inference: modes=[inference]"])
    from hornet_train.export.runtimes import NAMES, check_runtimes, runtime

    check_runtimes(config.runtimes)
    return [
        replace(one, name=f"{one.name}, {NAMES[name]}", runtime=runtime(name))
        for one in contenders
        if one.name in config.models
        for name in config.runtimes
    ]


def _step(overrides: list[str]) -> None:
    config = compose_bench(StepBench, "step", overrides).config
    before_torch(config.out, config.plot)
    from hornet_train.bench.contenders import build_contenders
    from hornet_train.bench.step_times import Case, measure
    from hornet_train.report.bench_figures import draw_ratios

    contenders = build_contenders(config.peers, config.models, config.image_size, plain=config.plain)
    in_runtimes = _in_runtimes(config, contenders)
    console = console_sink()
    from hornet_train.run.process import joined

    with joined(config.dist) as world:
        precision = precision_of(config.precision, world.device)
        if in_runtimes and (precision != "fp32" or world.device.type != "cpu"):
            raise ConfigError(["runtimes= are measured in fp32 on a CPU: precision=fp32 dist=cpu"])
        results = [
            one
            for mode in config.modes
            for one in measure(
                [*contenders, *(in_runtimes if mode == "inference" else ())],
                Case(mode, config.batch_size, config.image_size, precision, world.device),
                rounds=config.rounds,
                compiling=config.compile,
                layouts=config.layouts,
                say=console.say,
            )
        ]
    title = (
        f"{config.batch_size} images of {brief(config.image_size)} pixels, {precision}, median of "
        f"{config.rounds} rounds; ratio: times as fast as {config.peers[0]}"
    )
    columns = ("", "model", "images/s", "ratio", "from", "to", "fastest when")
    rows = [
        (one.mode, one.name, f"{one.images_per_second:.1f}", *(f"{r:.2f}" for r in one.ratio), one.setting)
        for one in results
    ]
    console.table(title, columns, rows)
    write_figures(console, config, precision, world.device, {"measured": [one.as_json() for one in results]})
    if config.plot is not None:
        draw_ratios([(one.mode, one.name, one.ratio) for one in results], Path(config.plot), title)
        console.say(f"plot: {config.plot}")


def _loop(overrides: list[str]) -> None:
    config = compose_bench(LoopBench, "loop", overrides).config
    before_torch(config.out)
    from hornet_train.bench.loop import measure_loop

    console = console_sink()
    from hornet_train.run.process import joined

    with joined(config.dist) as world:
        precision = precision_of(config.precision, world.device)
        found = measure_loop(
            check_model(config.model),
            batch_size=config.batch_size,
            image_size=config.image_size,
            precision=precision,
            rounds=config.rounds,
            checkpoints=config.checkpoints,
            world=world,
        )
    rows = [
        ("a step in the loop, over a bare one", *(f"{value:.3f}" for value in found.fit)),
        ("with averaged weights, over without", *(f"{value:.3f}" for value in found.average)),
        (
            "seconds that the loop waits for a checkpoint",
            *(f"{of(found.checkpoint):.3f}" for of in (median, min, max)),
        ),
    ]
    title = f"{config.model}, {config.batch_size} images of {brief(config.image_size)} pixels, {precision}"
    console.table(f"{title}; a bare step: {found.step_seconds:.3f} s", ("", "median", "from", "to"), rows)
    write_figures(console, config, precision, world.device, found.as_json())


def _scaling(overrides: list[str]) -> None:
    config = compose_bench(ScalingBench, "scaling", overrides).config
    before_torch(config.out, config.plot)
    from hornet_train.bench.contenders import contender
    from hornet_train.bench.scaling import batch_growth, order_growth, pixel_growth, process_ratios
    from hornet_train.bench.step_times import Case
    from hornet_train.report.bench_figures import draw_growth

    console, name, rounds = console_sink(), check_model(config.model), config.rounds
    growths = []
    processes = None
    from hornet_train.run.process import joined

    with joined(config.dist) as world:
        precision = precision_of(config.precision, world.device)
        for mode in config.modes:
            case = Case(mode, config.batch_size, config.image_size, precision, world.device)
            console.say(f"{mode}: batches {config.batches}, sides {config.sides}, orders {config.orders}")
            growths.append(batch_growth(contender(name, config.image_size), case, config.batches, rounds))
            growths.append(pixel_growth(lambda side: contender(name, side), case, config.sides, rounds))
            sizes = {"width": config.width, "side": config.map_side}
            growths.append(order_growth(case, config.orders, **sizes, rounds=rounds))
        if config.processes > 1:
            count = config.processes
            console.say(f"{count} processes with 1 thread each, against 1 process with {count} threads")
            case = Case("train", config.batch_size, config.image_size, precision, world.device)
            processes = process_ratios(name, case, processes=config.processes, steps=4, rounds=rounds)
    rows = []
    for one in growths:
        slope, intercept, explained = one.fit if len(one.sizes) > 2 else (0.0, 0.0, 1.0)
        seconds = ", ".join(
            f"{size}: {value * 1000:.1f}" for size, value in zip(one.sizes, one.seconds, strict=True)
        )
        fit = (
            f"{slope * 1000:.3g} x + {intercept * 1000:.3g}, R2 {explained:.4f}" if len(one.sizes) > 2 else ""
        )
        rows.append((one.of, seconds, f"{one.relative[-1]:.2f}", fit))
    console.table(f"{name}, {precision}", ("", "ms of each size", "last over first", "fit, ms"), rows)
    if processes is not None:
        console.say(
            f"{config.processes} processes with 1 thread each: {processes[0]:.2f} ({processes[1]:.2f} to "
            f"{processes[2]:.2f}) times the images per second of 1 process with {config.processes}"
        )
    write_figures(
        console,
        config,
        precision,
        world.device,
        {"growths": [one.as_json() for one in growths], "processes_ratio": processes},
    )
    if config.plot is not None:
        draw_growth([(one.of, one.sizes, one.seconds) for one in growths], Path(config.plot), name)
        console.say(f"plot: {config.plot}")


def _limit(overrides: list[str]) -> None:
    config = compose_bench(LimitBench, "limit", overrides).config
    before_torch(config.out)
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else torch's profiler logs to the console
    import torch

    from hornet_train.bench.contenders import contender
    from hornet_train.bench.limit import activation_bytes, limit
    from hornet_train.bench.step_times import Case, Setting, build_step, random_images
    from hornet_train.models.complexity import count
    from hornet_train.models.kernels.rows import product_dtype
    from hornet_train.models.layers import lay_out
    from hornet_train.models.structure import backbone_of, set_grad_checkpointing

    console, one = console_sink(), contender(check_model(config.model), config.image_size)
    from hornet_train.run.process import joined

    with joined(config.dist) as world:
        precision = precision_of(config.precision, world.device)
        case = Case("train", config.batch_size, config.image_size, precision, world.device)
        step = build_step(one, Setting(channels_last=True, compiled=config.compile), case)
        for _ in range(2):
            step()
        dtype = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        macs = count(one.build(), config.image_size).macs * config.batch_size
        if world.device.type == "cpu":
            dtype = product_dtype(dtype)
        found = limit(step, macs=macs, dtype=dtype, device=world.device)
        model = lay_out(one.build().to(world.device), torch.channels_last)
        activations = {"all activations": activation_bytes(model, random_images(case), precision)}
        if backbone_of(model) is not None:
            set_grad_checkpointing(model, True, config.model)
            activations["every block recomputed"] = activation_bytes(model, random_images(case), precision)
    rows = [
        *(
            (f"memory for the backward pass, {name}", f"{size / 1e9:.2f} GB", "")
            for name, size in activations.items()
        ),
        (
            f"peak of matrix products in {str(dtype).removeprefix('torch.')}",
            f"{found.matmul / 1e9:,.0f} GFLOP/s",
            "",
        ),
        ("peak of copies", f"{found.bandwidth / 1e9:.1f} GB/s", ""),
        (
            "the step's arithmetic",
            f"{found.flops / 1e9:,.0f} GFLOP",
            f"{100 * found.of_matmul:.0f}% at the peak",
        ),
        (
            "the memory traffic of its operators",
            f"{found.bytes / 1e9:.1f} GB",
            f"{100 * found.of_bandwidth:.0f}% at the peak",
        ),
        *(
            (name, f"{calls} calls", f"{100 * share:.1f}%")
            for name, share, calls in (*found.operators, *found.kernels)
        ),
    ]
    title = f"{config.model}, {config.batch_size} images of {brief(config.image_size)} pixels, {precision}"
    console.table(f"{title}: {found.seconds:.3f} s a step", ("", "", "share of the time"), rows)
    write_figures(console, config, precision, world.device, {**found.as_json(), "kept_bytes": activations})


BENCHES: dict[str, Callable[[list[str]], None]] = {
    "step": _step,
    "loop": _loop,
    "scaling": _scaling,
    "limit": _limit,
    "heads": heads,
    "detectors": detectors,
    "service": service,
}


if __name__ == "__main__":
    main(sys.argv[1:])
