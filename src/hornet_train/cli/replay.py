"""`hornet-train replay=FILE`: repeat a skipped step from the file that guard.dump=true wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hornet_train._timm import import_timm
from hornet_train.engine.launched import launched_world_size
from hornet_train.errors import ConfigError

if TYPE_CHECKING:
    from hornet_train.engine.dump import Dump
    from hornet_train.engine.replay import Finding

KEY = "replay="


def run_replay(overrides: list[str]) -> None:
    """Repeat the step, and print where it first has a number that is not finite.

    Other overrides change the config of the run: precision=fp32, for instance, to see whether it helps.

    Raises:
        UserError: the file is not such a dump, or does not fit the overrides.
    """
    files = [text.removeprefix(KEY) for text in overrides if text.startswith(KEY)]
    if len(files) != 1 or not files[0]:
        raise ConfigError([f"{KEY}<file>: give one file from the dumps folder of a run"])
    if launched_world_size() > 1:
        raise ConfigError([f"{KEY}{files[0]}: a replay runs in one process, without torchrun"])
    import_timm()
    from hornet_train.engine.distributed import choose_device
    from hornet_train.engine.dump import read_dump
    from hornet_train.engine.replay import replay
    from hornet_train.run.open_dump import build_replay, replay_config
    from hornet_train.run.process import set_up_process
    from hornet_train.tasks.table import kit_of
    from hornet_train.track.console import ConsoleSink

    file = Path(files[0]).expanduser()
    dump = read_dump(file)
    composed = replay_config(dump, file, [text for text in overrides if not text.startswith(KEY)])
    config = composed.config
    assert composed.task is not None
    try:
        device = choose_device(config.dist.device)
    except ValueError as error:
        raise ConfigError([f"dist.device={config.dist.device}: {error}"]) from error
    set_up_process(config.dist, device, deterministic=config.deterministic)
    task, model = build_replay(kit_of(composed.task), config, dump, file)
    findings = replay(task, model.to(device), dump, config.precision)
    console = ConsoleSink(1, 1, interactive=False)
    numbers = dump.numbers
    console.start_panel(
        {
            "file": str(file),
            "step": f"{numbers.step + 1:,}, rank {numbers.rank} of {numbers.world_size}",
            "model": config.model.name,
            "precision": config.precision
            + (f" (was {numbers.precision})" if config.precision != numbers.precision else ""),
        },
        "hornet-train replay",
    )
    rows = [_row(finding, dump) for finding in findings]
    console.table(
        "micro-batches",
        ["micro-batch", "images", "loss", "first not finite", "of samples", "greatest before"],
        rows,
    )
    for finding in findings:
        if finding.norms:
            norms = [[stage, norm] for stage, norm in finding.norms.items()]
            console.table(f"gradient norm, micro-batch {finding.micro}", ["stage", "norm"], norms)


def _row(finding: Finding, dump: Dump) -> list[Any]:
    known = dump.numbers.samples[dump.numbers.micros.index(finding.micro)]
    samples = [str(known[place] if known else f"place {place}") for place in finding.places]
    shown = ", ".join(samples[:8]) + (f" and {len(samples) - 8} more" if len(samples) > 8 else "")
    return [
        finding.micro,
        finding.size,
        finding.loss,
        finding.module or "(all finite)",
        shown or "-",
        f"{finding.greatest:.4g} in {finding.where or 'the input'}",
    ]
