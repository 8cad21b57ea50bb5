"""Batches by way of the workers' slots are what they would be without, also when they are kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hornet_train.data.collate import Slots, stacked
from hornet_train.data.loader import EvalLoader, Reading
from hornet_train.data.order import Address


class Numbered:
    """Image i is full of i."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def read(self, image: int) -> tuple[Tensor, int]:
        return torch.from_numpy(np.full((6, 5, 3), image, dtype=np.uint8)).permute(2, 0, 1), image

    def make(self, address: Address, image: Tensor, target: int) -> dict[str, Any]:  # noqa: ARG002
        return {"image": image, "label": target, "mask": torch.full((2, 2), target)}


@pytest.mark.parametrize(("workers", "prefetch"), [(0, 2), (1, 1), (2, 2), (3, 1)])
def test_kept_batches_stay_what_they_were(workers: int, prefetch: int) -> None:
    loader = EvalLoader(Numbered(200), Reading(torch.device("cpu"), workers, prefetch))
    kept = list(loader.batches(0, 1, 6))  # every slot has been written to many times
    images = torch.cat([loaded.batch["image"] for loaded in kept])
    assert torch.equal(images[:, 0, 0, 0].long(), torch.arange(200))
    assert images.flatten(1).float().std(dim=1).max() == 0
    assert torch.equal(torch.cat([loaded.batch["mask"] for loaded in kept])[:, 0, 0], torch.arange(200))
    assert all(loaded.batch["image"].is_contiguous(memory_format=torch.channels_last) for loaded in kept)
    assert not any(loaded.batch["image"].is_shared() for loaded in kept)


def test_a_slot_is_taken_again_after_its_turn_and_grows() -> None:
    slots = Slots(2)
    starts = [slots.take("image", (2, 3)).data_ptr() for _ in range(4)]
    assert starts[0] == starts[2] != starts[1] == starts[3]
    assert slots.take("other", (1,)).data_ptr() not in starts
    assert slots.take("image", (40, 3)).shape == (40, 3)


def test_only_images_of_bytes_are_put_into_slots() -> None:
    slots = Slots(2)
    image = torch.zeros(4, 5, 3, dtype=torch.uint8).permute(2, 0, 1)
    batch = stacked([{"image": image, "depth": image.float(), "label": 3}] * 2, slots)
    assert list(batch) == ["image", "depth", "label"]
    assert [name for name in batch if slots.holds(batch[name])] == ["image"]
    with pytest.raises(RuntimeError):
        stacked([{"image": image}, {"image": image[:, 1:]}], slots)
