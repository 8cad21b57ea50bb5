"""Options of HorNet that its constructor and its forward check: sizes, values of each stage, pooling."""

from collections.abc import Sequence
from typing import TypeVar

from torch import Tensor

T = TypeVar("T")
POOLS = ("avg", "max", "avgmax", "")


class UnknownPoolError(ValueError, AssertionError):
    """An unknown global_pool: our ValueError, and the AssertionError that timm's models raise."""


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
    if x_BCHW.shape[2] < stride or x_BCHW.shape[3] < stride:
        raise ValueError(
            f"images of {x_BCHW.shape[2]} x {x_BCHW.shape[3]} are too small: the model's stride needs "
            f"{stride} x {stride}"
        )
    return x_BCHW


def one_a_stage(name: str, given: T | Sequence[T], stages: int) -> list[T]:
    """A value for each stage, from one for all or a list of them.

    Raises:
        ValueError: a list of another length.
    """
    if isinstance(given, str) or not isinstance(given, Sequence):
        return [given] * stages
    if len(given) != stages:
        raise ValueError(f"{name} has {len(given)} entries for {stages} stages: one for all, or one a stage")
    return list(given)


def pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of an image size; ValueError where it is neither one number nor two."""
    height, width = (size, size) if isinstance(size, int) else size
    return height, width


def grid_of(image: tuple[int, int], stride: int) -> tuple[int, int]:
    """The frequency grid (h, w) of a global filter: that of the real FFT of an image's map at a stride."""
    height, width = (size // stride for size in image)
    return height, width // 2 + 1
