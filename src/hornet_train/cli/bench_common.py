"""What the benches of `hornet-bench` share: the files they write, the precision, the console."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hornet_train._timm import import_timm
from hornet_train.config.bench_schema import Bench
from hornet_train.errors import ConfigError, did_you_mean
from hornet_train.track.output_file import check_output

if TYPE_CHECKING:
    import torch

    from hornet_train.engine.precision import PrecisionName
    from hornet_train.track.console import ConsoleSink


def console_sink() -> ConsoleSink:
    """Plain lines and tables."""
    from hornet_train.track.console import ConsoleSink

    return ConsoleSink(1, 1, interactive=False)


def precision_of(asked: PrecisionName | None, device: torch.device) -> PrecisionName:
    """What is asked for, else bf16 where the device has instructions for it."""
    from hornet_train.engine.precision import native_precision

    return native_precision(device) if asked is None else asked


def check_model(name: str) -> str:
    """The name, if timm has such a model; else raises ConfigError."""
    import timm

    import hornet_train.models  # noqa: F401 - registers HorNet

    if not timm.is_model(name):
        raise ConfigError([f"model={name}: timm has no such model; {did_you_mean(name, timm.list_models())}"])
    return name


def write_figures(
    console: ConsoleSink, config: Bench, precision: str, device: torch.device, found: dict[str, Any]
) -> None:
    """Write the JSON file that `out=` names, if any: the config, the environment and the figures."""
    from hornet_train.config.validate import plain
    from hornet_train.track.durable_files import write_json
    from hornet_train.track.environment import environment

    if config.out is None:
        return
    settings = {name: value for name, value in plain(config).items() if name not in ("out", "plot", "dist")}
    settings |= {"precision": precision, "environment": environment(device=device.type)}
    write_json(Path(config.out), {**settings, **found})
    console.say(f"figures: {config.out}")


def before_torch(out: str | None, plot: str | None = None) -> None:
    """What is done before torch and timm are imported, which takes seconds: look at the files to be written.

    Raises:
        ConfigError: one cannot be written.
    """
    if out is not None:
        check_output(f"out={out}", Path(out), ".json")
    if plot is not None:
        check_output(f"plot={plot}", Path(plot), ".png")
    import_timm()
