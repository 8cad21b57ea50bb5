"""`hornet-info`: what a model is made of and what it costs. Nothing is computed, so no GPU is needed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NoReturn

from hornet_train.cli.command import run_command
from hornet_train.cli.help import answer_info_questions
from hornet_train.config.compose import compose_info
from hornet_train.config.schema import InfoConfig
from hornet_train.errors import ConfigError

if TYPE_CHECKING:
    from hornet_train.report.models import Table

FAMILY = "--family"


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script."""
    run_command(_inform, answer_info_questions, arguments)


def _inform(arguments: list[str]) -> None:
    from hornet_train.track.console import ConsoleSink

    family = FAMILY in arguments
    overrides = [argument for argument in arguments if argument != FAMILY]
    if family and (narrower := [o for o in overrides if not o.startswith("image_size=")]):
        raise ConfigError([f"{FAMILY} tells of every model: {' '.join(narrower)} does not apply"])
    config = compose_info(overrides).config
    if os.environ.get("RANK", "0") != "0":
        return
    table = _family(config) if family else _one(config)
    # plain lines, as in a file: a terminal that is too narrow then cuts no number
    console = ConsoleSink(1, 1, interactive=False)
    console.table(table.title, table.columns, table.rows)
    for note in table.notes:
        console.say(note)


def _family(config: InfoConfig) -> Table:
    from hornet_train.report.models import family_table

    sizes = (config.image_size,) if config.image_size else (224, 384)
    try:
        return family_table(sizes)
    except (ValueError, RuntimeError) as error:
        raise ConfigError([f"image_size={config.image_size} does not suit every model: {error}"]) from error


def _one(config: InfoConfig) -> Table:
    import torch

    from hornet_train.builders.model_checks import measured
    from hornet_train.models import HorNet
    from hornet_train.report.models import stage_table
    from hornet_train.tasks.classification import ModelSpec

    given = config.model
    if given.args.get("pretrained"):
        raise ConfigError(["model.args.pretrained: hornet-info reads no weights"])
    with torch.device("meta"):
        model = ModelSpec(given.name, given.num_classes or config.num_classes, args=given.args).build()
    cfg: Any = model.pretrained_cfg
    made_for = max(model.img_size) if isinstance(model, HorNet) else cfg["input_size"][-1]
    size: int = config.image_size or made_for
    measured(model, given.name, size, "image_size")
    return stage_table(model, given.name, size)


if __name__ == "__main__":
    main()
