"""A batch size that suits the data, where nobody has given one and the default is for millions of images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hornet_train.config.compose import Composed
from hornet_train.config.schema import Config
from hornet_train.config.stored import read_config
from hornet_train.config.validate import plain, shared_rules
from hornet_train.errors import ConfigError
from hornet_train.tasks.kit import Kit
from hornet_train.tasks.kit_types import Datasets, samples_of

STEPS = 10  # an epoch has at least so many
SMALLEST = 8  # images of a step, where there are so many


def suitable_batch_size(samples: int, most: int, world_size: int = 1) -> int:
    """The largest power of two with which an epoch has `STEPS` steps, at least `SMALLEST`, at most `most`.

    Cut down to a multiple of the number of processes.
    """
    size = min(most, max(min(SMALLEST, samples), samples // STEPS, 1))
    if size < most:
        size = 1 << (size.bit_length() - 1)
    return max(size // world_size, 1) * world_size


def follow_data(
    kit: Kit[Any, Any], composed: Composed[Config], world_size: int
) -> tuple[Composed[Config], Datasets | None]:
    """The config with a batch size for its data, and its learning rate for that batch size, and a note.

    Nothing changes where the command line gives a batch size, where an epoch has `STEPS` steps anyway, and in
    a run that is repeated or gone on with. The rate is given for the default batch size, and scaled with the
    root of the ratio, as AdamW asks for (Malladi et al., arXiv 2205.10287), unless the command line has one.

    Returns:
        The config, and the data where they were opened: as `Kit.open_data` gives them without classes.

    Raises:
        UserError: the data cannot be opened, or other settings do not suit the batch size.
    """
    config = composed.config
    if composed.repeats is not None or composed.goes_on or "batch_size" in composed.given:
        return composed, None
    if (kept := _kept(config)) is not None:
        return _with(composed, *kept, "as the run in run_dir has it", world_size), None
    opened = kit.open_data(config.data)
    assert opened.train is not None
    samples, default = samples_of(opened.train), config.batch_size
    size = suitable_batch_size(samples, default, world_size)
    if samples >= STEPS * default or size >= default:
        return composed, opened
    rate = float(f"{config.optim.lr * (size / default) ** 0.5:.2g}")
    return _with(composed, size, rate, f"for {samples:,} training images", world_size), opened


def _with(
    composed: Composed[Config], size: int, rate: float, whose: str, world_size: int
) -> Composed[Config]:
    """The config with a batch size and its learning rate, unless the command line has one, and a note."""
    config = composed.config
    default = config.batch_size
    if size == default:
        return composed
    if "optim.lr" in composed.given:
        rate = config.optim.lr
    followed = replace(config, batch_size=size, optim=replace(config.optim, lr=rate))
    if faults := list(shared_rules(followed, world_size)):
        raise ConfigError(faults)
    lr = "" if rate == config.optim.lr else f" optim.lr={rate:g}"
    note = f"batch_size={size}{lr}: {whose}, in place of {default}; the command line can say otherwise"
    return replace(composed, config=followed, tree=plain(followed), notes=(*composed.notes, note))


def _kept(config: Config) -> tuple[int, float] | None:
    """The batch size and learning rate of the run in the folder, if there is one; images may have gone."""
    if config.run_dir is None or config.resume == "restart":
        return None
    file = Path(config.run_dir) / "config.yaml"
    tree = read_config(file) if file.is_file() else {}
    size, optim = tree.get("batch_size"), tree.get("optim")
    rate = optim.get("lr") if isinstance(optim, dict) else None
    return (size, rate) if isinstance(size, int) and isinstance(rate, float) else None
