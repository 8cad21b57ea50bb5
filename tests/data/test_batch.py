"""What is done to a batch, whatever its fields are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hornet_train.data.batch import (
    Batch,
    Block,
    from_named_tensors,
    named_tensors,
    nbytes,
    only,
    ragged,
    select,
    size,
    stacked,
    to_device,
    views,
)
from hornet_train.engine.dump import StepNumbers, read_dump, write_dump

SHAPES = st.lists(st.integers(0, 3), max_size=3)
TYPES = st.sampled_from([torch.float32, torch.int64, torch.uint8, torch.bool, torch.bfloat16])


def batch() -> Batch:
    return {
        "image": torch.arange(24, dtype=torch.uint8).view(3, 2, 2, 2),
        "boxes": [torch.full((k, 4), float(k)) for k in range(3)],
        "index": torch.tensor([7, 8, 9]),
    }


def same(one: Batch, other: Batch) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert isinstance(value, Tensor) == isinstance(other[name], Tensor)
        torch.testing.assert_close(value, other[name], rtol=0, atol=0)


def test_fields_are_what_they_are_asked_to_be() -> None:
    assert stacked(batch(), "index").tolist() == [7, 8, 9]
    assert len(ragged(batch(), "boxes")) == 3
    with pytest.raises(TypeError, match="'boxes' is a list of tensors"):
        stacked(batch(), "boxes")
    with pytest.raises(TypeError, match="'image' is one tensor"):
        ragged(batch(), "image")


def test_size_and_bytes() -> None:
    assert size(batch()) == 3
    assert size({"boxes": batch()["boxes"]}) == 3
    assert size({}) == 0
    assert nbytes(batch()) == 24 + (0 + 1 + 2) * 4 * 4 + 3 * 8


def test_some_samples_and_some_fields() -> None:
    chosen = select(batch(), [2, 0])
    assert stacked(chosen, "index").tolist() == [9, 7]
    assert [len(boxes) for boxes in ragged(chosen, "boxes")] == [2, 0]
    assert torch.equal(stacked(chosen, "image"), stacked(batch(), "image")[[2, 0]])
    assert list(only(batch(), ("index", "label"))) == ["index"]


def test_every_tensor_goes_to_a_device() -> None:
    moved = to_device(batch(), torch.device("meta"))
    assert stacked(moved, "image").is_meta
    assert all(boxes.is_meta for boxes in ragged(moved, "boxes"))


@given(st.permutations(range(14)))
@settings(deadline=None)
def test_named_tensors_make_the_batch_again_in_any_order(order: list[int]) -> None:
    many: Batch = {
        "masks": [torch.full((k, 1), k) for k in range(12)],  # `masks[10]` sorts before `masks[2]`
        "label": torch.ones(12),
        "depth": torch.zeros(12),
    }
    named = list(named_tensors(many).items())
    assert len(named) == 14
    same(from_named_tensors(dict(named[place] for place in order)), many)


def test_a_kept_step_has_its_ragged_fields(tmp_path: Path) -> None:
    numbers = StepNumbers(4, 6, 0, 1, 3, "fp32", [1, 3], [3, 3], [[7, 8, 9], None])
    other = select(batch(), [1, 0])
    path = write_dump(tmp_path, numbers, {"w": torch.ones(2)}, [batch(), other], {})
    assert path is not None
    found = read_dump(path)
    same(found.batches[0], batch())
    same(found.batches[1], other)
    assert found.model.keys() == {"w"}


@given(st.lists(SHAPES, min_size=1, max_size=6), TYPES, st.data())
@settings(deadline=None)
def test_a_block_gives_back_every_tensor_in_its_own_layout(
    shapes: list[list[int]], dtype: torch.dtype, data: st.DataObject
) -> None:
    samples = []
    for seed, shape in enumerate(shapes):
        values = torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape)).to(dtype)
        samples.append(values.permute(data.draw(st.permutations(range(len(shape))))))
    block = Block.of(samples, lambda elements, kind: torch.empty(elements, dtype=kind))
    assert block.flat.numel() == sum(sample.numel() for sample in samples)
    for one, other in zip(views(block.flat, block.layouts), samples, strict=True):
        assert torch.equal(one, other)
        assert one.stride() == torch.empty_like(other).stride()


def test_a_block_is_of_one_type() -> None:
    with pytest.raises(TypeError, match=r"several types: torch\.float32, torch\.int64"):
        Block.of([torch.ones(2), torch.ones(2).long()], lambda n, kind: torch.empty(n, dtype=kind))
