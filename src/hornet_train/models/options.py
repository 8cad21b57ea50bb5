"""Options of HorNet that its constructor and its forward check: sizes, values of each stage, pooling."""

import operator
from collections.abc import Iterable, Sequence
from typing import TypeVar

from torch import Tensor

T = TypeVar("T")
POOLS = ("avg", "max", "avgmax", "")


class UnknownPoolError(ValueError, AssertionError):
    """An unknown global_pool: our ValueError, and the AssertionError that timm's tests expect of a model."""


def whole_number(name: str, value: object, least: int = 1) -> int:
    """The value as an int, also where it is one of numpy's.

    Raises:
        ValueError: it is no whole number, or below `least`; the message starts with `name`.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool):
        raise ValueError(f"{name} is a whole number from {least} on, not {value!r}")
    return number


def probability(name: str, value: float) -> float:
    """A probability below 1. Raises ValueError for anything else."""
    if not isinstance(value, int | float) or not 0.0 <= value < 1.0:
        raise ValueError(f"{name} is a probability below 1, not {value!r}")
    return value


def checked_depths(depths: Iterable[int]) -> tuple[int, ...]:
    """The number of blocks of each stage. Raises ValueError if there is no stage, or one without blocks."""
    if not isinstance(depths, Iterable):
        raise ValueError(f"depths is a list, one entry a stage, not {depths!r}")
    blocks = tuple(whole_number("each of depths", depth) for depth in depths)
    whole_number("the number of stages", len(blocks))
    return blocks


def require_pool(name: str) -> str:
    """The name as it is. Raises UnknownPoolError."""
    if name not in POOLS:
        raise UnknownPoolError(f"global_pool is one of {POOLS}, the last for none, not {name!r}")
    return name


def pool(x_BCHW: Tensor, how: str) -> Tensor:
    """Over height and width. Shape out: (B, C); with "" (no pooling) (B, H, W, C)."""
    if how == "avg":
        return x_BCHW.mean(dim=(2, 3))
    if how == "max":
        return x_BCHW.amax(dim=(2, 3))
    if how == "avgmax":
        return 0.5 * (x_BCHW.mean(dim=(2, 3)) + x_BCHW.amax(dim=(2, 3)))
    return x_BCHW.permute(0, 2, 3, 1)


def require_size(x_BCHW: Tensor, stride: int) -> Tensor:
    """The images as they are. Raises ValueError where a side is below `stride`, which leaves no pixel."""
    if x_BCHW.ndim != 4:
        raise ValueError(f"images have (batch, channels, height, width), not {x_BCHW.ndim} dimensions")
    if x_BCHW.shape[2] < stride or x_BCHW.shape[3] < stride:
        raise ValueError(
            f"images of {x_BCHW.shape[2]} x {x_BCHW.shape[3]} are too small: the model's stride needs "
            f"{stride} x {stride}"
        )
    return x_BCHW


def one_a_stage(name: str, given: T | Iterable[T], stages: int) -> list[T]:
    """A value for each stage, from one for all or a list of them.

    Raises:
        ValueError: a list of another length.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        return [given] * stages
    values = list(given)
    if len(values) != stages:
        raise ValueError(f"{name} has {len(values)} entries for {stages} stages: one for all, or one a stage")
    return values


def image_size(given: int | Sequence[int], stride: int) -> tuple[int, int]:
    """(height, width) from one number for a square, or both.

    Raises:
        ValueError: it is neither, or a side is below `stride`.
    """
    sides = list(given) if isinstance(given, Sequence) else [given] * 2
    if len(sides) != 2:
        raise ValueError(f"img_size is one number, or (height, width), not {given!r}")
    height, width = (whole_number("img_size", side) for side in sides)
    if min(height, width) < stride:
        raise ValueError(f"img_size={given} is smaller than the model's stride, {stride}")
    return height, width
