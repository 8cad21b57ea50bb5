"""Whether a model takes the images of a run, and what they cost it."""

from __future__ import annotations

from torch import nn

from hornet_train.data.order import Plan
from hornet_train.errors import ConfigError
from hornet_train.models.complexity import Complexity, count, trains_on_one_image
from hornet_train.models.spec import MODEL_ERRORS, error_text
from hornet_train.models.structure import resizes_filters


def check_image_size(
    model: nn.Module, name: str, image_size: int, key: str = "data.image_size"
) -> Complexity:
    """What a model costs at an image size, the value of `key`, found by running it without arithmetic.

    Raises:
        ConfigError: it does not take images of that size.
    """
    try:
        return count(model, image_size)
    except MODEL_ERRORS as error:
        raise ConfigError([f"{key}={image_size} does not suit {name}: {error_text(error)}"]) from error


def filter_notes(model: nn.Module, image_size: int) -> list[str]:
    """A sentence where images of a size cost more than they need to."""
    if not resizes_filters(model, image_size):
        return []
    return [
        f"the global filters are stored for other images than {image_size} x {image_size} and resized in "
        f"every forward; model.args.img_size={image_size} resizes them once"
    ]


def check_micro_batches(
    model: nn.Module,
    name: str,
    plan: Plan,
    *,
    image_size: int,
    total_steps: int,
    processes: int,
) -> None:
    """Refuse micro-batches of a single image where the model cannot be trained on one.

    Args:
        name: of the model.
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
        f"{name} cannot be trained on one image of {image_size}x{image_size} pixels at a time: "
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
