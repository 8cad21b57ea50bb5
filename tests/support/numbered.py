"""Samples that are known by their number: storage and samples in one."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hornet_train.data.order import Address
from hornet_train.data.sources.source import Fields


class Numbered:
    """Image i is full of i."""

    ragged = ()

    def __init__(self, length: int, height: int = 6, width: int = 5) -> None:
        self.length = length
        self.shape = (height, width, 3)

    def __len__(self) -> int:
        return self.length

    def read(self, index: int) -> Fields:
        return {"number": index}

    def decode(self, fields: Fields) -> tuple[Tensor, int]:
        number = fields["number"]
        return torch.from_numpy(np.full(self.shape, number, dtype=np.uint8)).permute(2, 0, 1), number

    def nbytes(self, decoded: tuple[Tensor, int]) -> int:
        return decoded[0].nbytes

    def make(self, address: Address, decoded: tuple[Tensor, int]) -> dict[str, Any]:  # noqa: ARG002
        image, number = decoded
        return {"image": image, "label": number, "mask": torch.full((2, 2), number)}
