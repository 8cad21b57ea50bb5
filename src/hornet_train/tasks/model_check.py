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
    step = single_image_step(plan, total_steps)
    if step is None or trains_on_one_image(model, image_size, in_chans=in_chans):
        return
    raise ConfigError(
        f"{more_than_one_image(plan, step, processes)} ({name} cannot be trained on one image of "
        f"{times(image_size)} pixels at a time: batch norm would have a single value a channel)"
    )


def single_image_step(plan: Plan, total_steps: int) -> int | None:
    """A step in which a micro-batch of some rank is a single image; None where there is none."""
    last = plan.steps_per_epoch - 1
    steps = (0, last) if total_steps > last else (0,)
    return next((step for step in steps if plan.smallest_micro_batch(step) == 1), None)


def more_than_one_image(plan: Plan, step: int, processes: int) -> str:
    """What to change so that no micro-batch is a single image, as `single_image_step` has found one."""
    if step == 0 and plan.step_size(0) == processes:
        return f"batch_size={plan.step_size(0)} is one image a process: batch_size={2 * processes}, say"
    if step == 0:
        return f"micro_batch_size={plan.micro_batch_size}: give a larger one"
    size = plan.step_size(step)
    images = f"{size} image{'s' * (size > 1)}" + f" for {processes} processes" * (processes > 1)
    return (
        f"the last step of an epoch has {images}, which leaves one alone in a micro-batch: "
        "data.drop_last=true leaves that step out; or give another batch_size"
    )
