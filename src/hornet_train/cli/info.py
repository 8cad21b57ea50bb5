"""`hornet-info`: the parts of a model and their cost. The model is not run, so no GPU is needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from hornet_train.cli.command import launched_rank, run_command
from hornet_train.cli.help import answer_info_questions
from hornet_train.config.compose_info import compose_info
from hornet_train.config.schema import InfoConfig
from hornet_train.errors import ConfigError
from hornet_train.images.size import Size, as_value
from hornet_train.tasks.table import NAMES, find

if TYPE_CHECKING:
    from hornet_train.report.model_tables import Table

FAMILY = "--family"


def main(arguments: list[str] | None = None) -> NoReturn:
    """The console script."""
    run_command(_inform, answer_info_questions, arguments)


def _inform(arguments: list[str]) -> None:
    from hornet_train.library import info
    from hornet_train.track.console import ConsoleSink

    family = FAMILY in arguments
    overrides = [argument for argument in arguments if argument != FAMILY]
    if family and (narrower := [o for o in overrides if not o.startswith("image_size=")]):
        raise ConfigError([f"{FAMILY} lists every model: {' '.join(narrower)} does not apply"])
    if launched_rank() != "0":
        compose_info(overrides, find=find, names=NAMES)  # so that every rank fails on a mistake
        return
    table = (
        _family(compose_info(overrides, find=find, names=NAMES).config) if family else info(overrides).table
    )
    # plain lines, so that a narrow terminal does not cut numbers off
    console = ConsoleSink(1, 1, interactive=False)
    console.table(table.title, table.columns, table.rows)
    for note in table.notes:
        console.say(note)


def _family(config: InfoConfig) -> Table:
    from hornet_train.report.model_tables import family_table

    sizes: tuple[Size, ...] = (config.image_size,) if config.image_size else (224, 384)
    try:
        return family_table(sizes)
    except (ValueError, RuntimeError) as error:
        size = config.image_size and as_value(config.image_size)
        raise ConfigError([f"image_size={size} does not suit every model: {error}"]) from error


if __name__ == "__main__":
    main()
