"""What operators on raw memory expect of their arguments: with others a loop would leave its memory."""

from __future__ import annotations

import torch
from torch import Tensor

from hornet_train.models.kernels.rows import DTYPES


def expect(operator: str, **given: tuple[Tensor | None, tuple[int, ...]]) -> None:
    """Check the shapes of an operator's arguments; trailing sides of 1, as of a 1x1 convolution, are free.

    Args:
        operator: its name, for the message.
        given: name -> the argument and its shape; None for an argument that was left out.

    Raises:
        ValueError: the shape of an argument is another one.
    """
    for name, (tensor, shape) in given.items():
        if tensor is None or tensor.shape == shape:
            continue
        if tensor.shape[: len(shape)] != shape or tensor.shape[len(shape) :].numel() != 1:
            raise ValueError(f"{operator}: {name} is {tuple(tensor.shape)}, expected {shape}")


def expect_dtypes(operator: str, **given: torch.dtype) -> None:
    """Check that the loops know dtypes.

    Args:
        operator: its name, for the message.
        given: name -> dtype of an argument.

    Raises:
        ValueError: one is neither float32 nor bfloat16.
    """
    for name, dtype in given.items():
        if dtype not in DTYPES:
            raise ValueError(f"{operator}: {name} is {dtype}; expected float32 or bfloat16")
