"""Whether a model takes the images of a run, and what they cost it."""

from __future__ import annotations

import inspect

from torch import nn

from hornet_train.data.order import Plan
from hornet_train.errors import ConfigError
from hornet_train.images.size import Size, as_value, times
from hornet_train.models.complexity import Complexity, count, trains_on_one_image
from hornet_train.models.spec import MODEL_ERRORS, error_text
from hornet_train.models.structure import backbone_of, resizes_filters


def check_image_size(
    model: nn.Module, name: str, image_size: Size, key: str = "data.image_size", *, in_chans: int = 3
) -> Complexity:
    """What a model costs at an image size, the value of `key`, found by running it without arithmetic.

    `in_chans`: channels of the images.

    Raises:
        ConfigError: it does not take images of that size.
    """
    try:
        return count(model, image_size, in_chans=in_chans)
    except MODEL_ERRORS as error:
        size = as_value(image_size)
        hint = f"; model.args.img_size={size} builds it for this size" if _is_made_for_a_size(model) else ""
        raise ConfigError(
            [f"{key}={size} does not suit {name}: {error_text(error).rstrip('.')}{hint}"]
        ) from error


def _is_made_for_a_size(model: nn.Module) -> bool:
    """Whether a model takes images of the size alone that its constructor is given, as ViTs do."""
    return backbone_of(model) is None and "img_size" in inspect.signature(type(model)).parameters


def filter_notes(model: nn.Module, image_size: Size) -> list[str]:
    """A sentence where images of a size cost more than they need to."""
    if not resizes_filters(model, image_size):
        return []
    return [
        f"the global filters are stored for other images than {times(image_size).replace('x', ' x ')} and "
        f"resized in every forward; model.args.img_size={as_value(image_size)} resizes them once"
    ]


def check_micro_batches(
    model: nn.Module,
    name: str,
    plan: Plan,
    *,
    image_size: Size,
    total_steps: int,
    processes: int,
    in_chans: int = 3,
) -> None:
    """Refuse micro-batches of a single image where the model cannot be trained on one.

    Args:
        name: of the model.
        image_size: of the run's first steps, in pixels: later ones are not smaller.
        total_steps: of the run, which may end before the shorter last step of an epoch.
        in_chans: channels of the images.

    Raises:
        ConfigError: there are such micro-batches on some rank; the same on every rank.
    """
    last = plan.steps_per_epoch - 1
    steps = (0, last) if total_steps > last else (0,)
    single = next((step for step in steps if plan.smallest_micro_batch(step) == 1), None)
    if single is None or trains_on_one_image(model, image_size, in_chans=in_chans):
        return
    why = (
        f"{name} cannot be trained on one image of {times(image_size)} pixels at a time: "
        "batch norm would have a single value a channel"
    )
    if single == 0 and plan.step_size(0) == processes:
        remedy = f"batch_size={plan.step_size(0)} is one image a process: batch_size={2 * processes}, say"
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
