"""The benches of dense models: heads of segmentation, and detectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hornet_train.cli.bench_common import before_torch, console_sink, write_figures
from hornet_train.config.bench_schema import DetectorsBench, HeadsBench
from hornet_train.config.compose_info import compose_bench
from hornet_train.errors import ConfigError
from hornet_train.images.size import brief, height_width

if TYPE_CHECKING:
    from hornet_train.bench.timing import PartTime
    from hornet_train.track.console import ConsoleSink


def heads(overrides: list[str]) -> None:
    """`hornet-bench heads`."""
    config = compose_bench(HeadsBench, "heads", overrides).config
    if config.batch_size == 1 and "train" in config.modes:
        raise ConfigError(["batch_size=1: in training batch norm needs two crops: 2, or modes=inference"])
    before_torch(config.out)
    from hornet_train.bench.head_times import HeadCase, measure_heads

    console = console_sink()
    from hornet_train.run.process import joined

    with joined(config.dist) as world:
        sizes = (tuple(config.widths), config.channels, config.num_classes, config.side, config.batch_size)
        found = list(
            measure_heads(
                *(HeadCase(*sizes, world.device), config.parts, config.modes, config.rounds), peer=config.peer
            )
        )
    title = f"{config.batch_size} crops of {config.side} pixels, fp32; ratio: times as fast as conv"
    _report(console, title, found)
    write_figures(console, config, "fp32", world.device, {"measured": [vars(one) for one in found]})


def detectors(overrides: list[str]) -> None:
    """`hornet-bench detectors`."""
    config = compose_bench(DetectorsBench, "detectors", overrides).config
    height, width = height_width(config.image_size)
    if height % 32 or width % 32:
        raise ConfigError([f"image_size={brief(config.image_size)}: both sides must be multiples of 32"])
    before_torch(config.out)
    from hornet_train.bench.detector_times import DetectorCase, measure_detectors

    console = console_sink()
    from hornet_train.run.process import joined

    with joined(config.dist) as world:
        case = DetectorCase((height, width), config.batch_size, config.objects, config.regions, world.device)
        found = list(measure_detectors(case, config.parts, config.modes, config.rounds))
    title = (
        f"batch {config.batch_size}, {brief(config.image_size)} pixels, fp32; ratio: times as fast as "
        "torchvision's, in the pyramid as conv"
    )
    _report(console, title, found)
    write_figures(console, config, "fp32", world.device, {"measured": [vars(one) for one in found]})


def _report(console: ConsoleSink, title: str, found: Sequence[PartTime]) -> None:
    rows = [
        (one.part, one.mode, one.name, f"{one.seconds:.3f}", *(f"{value:.2f}" for value in one.ratio))
        for one in found
    ]
    console.table(title, ("part", "", "", "seconds", "ratio", "from", "to"), rows)
