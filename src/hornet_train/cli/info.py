"""`hornet-info`: what a model is made of and what it costs. Nothing is computed, so no GPU is needed."""

from __future__ import annotations

from typing import NoReturn

from hornet_train.cli.command import run_command
from hornet_train.cli.help import answer_info_questions
from hornet_train.config.compose import compose_info
from hornet_train.errors import ConfigError

FAMILY = "--family"


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script."""
    run_command(_inform, answer_info_questions, arguments)


def _inform(arguments: list[str]) -> None:
    import torch

    from hornet_train.builders.facts import measured
    from hornet_train.report.models import family_table, stage_table
    from hornet_train.tasks.classification import ModelSpec
    from hornet_train.track.console import ConsoleSink

    family = FAMILY in arguments
    overrides = [argument for argument in arguments if argument != FAMILY]
    if family and (narrower := [o for o in overrides if not o.startswith("image_size=")]):
        raise ConfigError([f"{FAMILY} tells of every model: {' '.join(narrower)} does not apply"])
    config = compose_info(overrides).config
    if family:
        table = family_table((config.image_size,) if config.image_size else (224, 384))
    else:
        spec = config.model
        with torch.device("meta"):
            model = ModelSpec(
                spec.name, config.num_classes, spec.drop_path, spec.grad_checkpointing, args=spec.args
            ).build()
        made_for: int = model.pretrained_cfg["input_size"][-1]  # type: ignore[index, assignment]
        size = config.image_size or made_for
        measured(model, spec.name, size, "image_size")
        table = stage_table(model, spec.name, size)
    console = ConsoleSink(1, 1)
    console.table(table.title, table.columns, table.rows)
    for note in table.notes:
        console.say(note)


if __name__ == "__main__":
    main()
