"""Whether a model can be trained on the micro-batches that a plan makes."""

from __future__ import annotations

from torch import nn

from hornet_train.config.schema import Config
from hornet_train.data.order import Plan
from hornet_train.errors import ConfigError
from hornet_train.models.complexity import trains_on_one_image


def check_micro_batches(
    model: nn.Module,
    config: Config,
    plan: Plan,
    *,
    image_size: int,
    total_steps: int,
    processes: int,
) -> None:
    """Refuse micro-batches of a single image where the model cannot be trained on one.

    Args:
        image_size: of the run's first steps, in pixels: later ones are not smaller.
        total_steps: of the run, which may end before the shorter last step of an epoch.

    Raises:
        ConfigError: there are such micro-batches on some rank; the same on every rank.
    """
    last = plan.steps_per_epoch - 1
    steps = (0, last) if total_steps > last else (0,)
    single = next((step for step in steps if plan.smallest_micro_batch(step) == 1), None)
    if single is None or trains_on_one_image(model, image_size):
        return
    why = (
        f"{config.model.name} cannot be trained on one image of {image_size}x{image_size} pixels at a time: "
        "batch norm would have a single value a channel"
    )
    if single == 0 and plan.step_size(0) == processes:
        remedy = f"batch_size={config.batch_size} is one image a process: batch_size={2 * processes}, say"
    elif single == 0:
        remedy = f"micro_batch_size={plan.micro_batch_size}: give a larger one"
    else:
        size = plan.step_size(last)
        images = f"{size} image{'s' * (size > 1)}" + f" for {processes} processes" * (processes > 1)
        remedy = (
            f"the last step of an epoch has {images}, which leaves one alone in a micro-batch: "
            "data.drop_last=true leaves that step out; or give another batch_size"
        )
    raise ConfigError(f"{remedy} ({why})")
