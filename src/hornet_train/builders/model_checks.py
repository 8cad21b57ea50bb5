"""Whether a model suits the images and batches that it is to see, found before anything is computed."""

from __future__ import annotations

from torch import nn

from hornet_train.config.schema import Config
from hornet_train.data.sampler import Plan
from hornet_train.errors import ConfigError
from hornet_train.models.complexity import Complexity, count
from hornet_train.tasks.classification import MODEL_ERRORS, in_words


def measured(model: nn.Module, name: str, image_size: int, key: str = "data.image_size") -> Complexity:
    """What a model costs at an image size, the value of `key`, found by running it without arithmetic.

    Raises:
        ConfigError: it does not take images of that size.
    """
    try:
        return count(model, image_size)
    except MODEL_ERRORS as error:
        raise ConfigError([f"{key}={image_size} does not suit {name}: {in_words(error)}"]) from error


def check_batch_norms(cost: Complexity, plan: Plan, config: Config, world_size: int) -> None:
    """Make sure that no batch norm sees a single value of each channel, whose deviation is not defined.

    Args:
        cost: of the model, at the smallest image size of the run.

    Raises:
        ConfigError: a rank forwards a single image at once, of which a batch norm sees one value per channel.
    """
    sizes = {size for step in (0, plan.steps_per_epoch - 1) for size in plan.micro_sizes(step)}
    if cost.norm_values != 1 or 1 not in sizes:
        return
    if plan.micro_batch_size == 1:
        key = "micro_batch_size" if config.micro_batch_size == 1 else "batch_size"
        when, remedy = "in each step", f"take a larger {key}"
    else:
        when, remedy = "in the last step of an epoch", "data.drop_last=true, or take another batch_size"
    micro = "null" if config.micro_batch_size is None else config.micro_batch_size
    raise ConfigError(
        [
            f"{config.model.name} cannot be trained on a single image at once: its batch norms see one value "
            f"per channel of it, at {cost.image_size[0]} x {cost.image_size[1]} pixels. With batch_size="
            f"{config.batch_size}, micro_batch_size={micro}, {plan.samples:,} training images and world size "
            f"{world_size} there is a single image {when}: {remedy}"
        ]
    )
