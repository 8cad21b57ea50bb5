"""Batches by way of the workers' slots are what they would be without, also when they are kept."""

from __future__ import annotations

import pytest
import torch
from numbered import Numbered

from hornet_train.data.collate import Slots, collated
from hornet_train.data.loader import EvalLoader, LoaderSettings


@pytest.mark.parametrize(("workers", "prefetch"), [(0, 2), (1, 1), (2, 2), (3, 1)])
def test_kept_batches_stay_what_they_were(workers: int, prefetch: int) -> None:
    numbered = Numbered(200)
    loader = EvalLoader(numbered, numbered, LoaderSettings(torch.device("cpu"), workers, prefetch))
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
    batch, _ = collated([{"image": image, "depth": image.float(), "label": 3}] * 2, slots=slots)
    assert list(batch) == ["image", "depth", "label"]
    assert [name for name in batch if slots.holds(batch[name])] == ["image"]
    with pytest.raises(RuntimeError):
        collated([{"image": image}, {"image": image[:, 1:]}], slots=slots)
