"""Fields of unequal shapes through real loaders: nothing is lost, mixed up or overwritten."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from hornet_train.data.batch import ragged, stacked
from hornet_train.data.loader import EvalLoader, Loaded, LoaderSettings, TrainLoader
from hornet_train.data.order import Address, EpochPlan
from hornet_train.data.sources.source import Fields
from hornet_train.data.stream_plan import StreamPlan
from hornet_train.data.streaming import StreamEvalLoader, StreamTrainLoader
from hornet_train.errors import SampleError

CPU = torch.device("cpu")


def expected(seed: int, number: int) -> dict[str, Tensor]:
    """The ragged tensors of a sample: all from its number."""
    rng = np.random.default_rng((seed, number))
    height, width, boxes = rng.integers(1, 12), rng.integers(1, 12), rng.integers(0, 5)
    return {
        "image": torch.from_numpy(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).permute(2, 0, 1),
        "boxes": torch.from_numpy(rng.random((boxes, 4), dtype=np.float32)),
        "kinds": torch.full((boxes,), number),
        "masks": torch.from_numpy(rng.random((boxes, height, width)) < 0.5),
    }


@dataclass(frozen=True)
class Objects:
    """Storage, near and in shards, and samples in one: images of many sizes, boxes, masks; some damaged."""

    count: int
    seed: int
    damaged: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()
    fingerprint: str = ""
    ragged: ClassVar[tuple[str, ...]] = ("image", "boxes", "kinds", "masks")

    def __len__(self) -> int:
        return self.count

    def locate(self, index: int) -> str:
        return f"number {index}"

    def read(self, index: int) -> Fields:
        return {"number": index}

    def decode(self, fields: Fields) -> int:
        number: int = fields["number"]
        if number in self.damaged:
            raise SampleError(f"number {number}", "it is damaged")
        return number

    def nbytes(self, decoded: int) -> int:  # noqa: ARG002
        return 400

    def make(self, address: Address, decoded: int) -> dict[str, Any]:
        return {
            **expected(self.seed, decoded),
            "thumbnail": torch.full((2, 2, 3), decoded % 251, dtype=torch.uint8).permute(2, 0, 1),
            "wanted": address.index,
        }


@dataclass(frozen=True)
class Sharded(Objects):
    def read(self, shard: int, start: int) -> Iterator[Fields]:  # type: ignore[override]
        first = sum(self.lengths[:shard])
        for at in range(start, self.lengths[shard]):
            yield {"number": first + at}


def check(loaded: list[Loaded], seed: int) -> list[int]:
    """Every tensor is that of its sample, after the last batch came; the samples' numbers."""
    seen: list[int] = []
    for one in loaded:
        if not one.batch:
            continue
        numbers = stacked(one.batch, "index").tolist()
        assert stacked(one.batch, "thumbnail")[:, 0, 0, 0].tolist() == [n % 251 for n in numbers]
        for name in Objects.ragged:
            values = ragged(one.batch, name)
            assert len(values) == len(numbers)
            for number, value in zip(numbers, values, strict=True):
                wanted = expected(seed, number)[name]
                assert value.dtype == wanted.dtype
                assert torch.equal(value, wanted), f"{name} of sample {number}"
        for image in ragged(one.batch, "image"):
            assert image.permute(1, 2, 0).is_contiguous(), "no longer channels-last"
        seen += numbers
    return seen


@pytest.mark.parametrize("workers", [0, 2])
@given(
    seed=st.integers(0, 2**20),
    samples=st.integers(8, 40),
    batch=st.integers(2, 6),
    prefetch=st.integers(1, 2),
    damaged=st.sets(st.integers(0, 40), max_size=2),
)
@example(seed=192766, samples=18, batch=2, prefetch=1, damaged={13, 17})  # all of a step
@settings(deadline=None, max_examples=8)
def test_with_random_access(
    workers: int, seed: int, samples: int, batch: int, prefetch: int, damaged: set[int]
) -> None:
    objects = Objects(samples, seed, tuple(damaged))
    loading = LoaderSettings(CPU, workers, prefetch)
    plan = EpochPlan(samples, batch, batch, 0, 1, seed, drop_last=True)
    steps = 2 * plan.steps_per_epoch
    trained = list(TrainLoader(objects, objects, plan, loading).batches(0, steps))
    seen = check(trained, seed)
    addressed = [a.index for step in range(steps) for chunk in plan.addresses(step) for a in chunk]
    assert [n for one in trained for n in stacked(one.batch, "wanted").tolist()] == addressed
    assert [b for a, b in zip(addressed, seen, strict=True) if a not in damaged] == [
        a for a in addressed if a not in damaged
    ]
    assert not set(seen) & damaged
    evaluated = list(EvalLoader(objects, objects, loading, on_bad="skip").batches(0, 1, batch))
    assert check(evaluated, seed) == [n for n in range(samples) if n not in damaged]


@pytest.mark.parametrize("workers", [0, 2])
@given(
    seed=st.integers(0, 2**20),
    length=st.integers(6, 12),
    batch=st.integers(2, 5),
    damaged=st.sets(st.integers(0, 24), max_size=1),
)
@settings(deadline=None, max_examples=8)
def test_streamed(workers: int, seed: int, length: int, batch: int, damaged: set[int]) -> None:
    lengths = (length, length + 1) * 2
    objects = Sharded(sum(lengths), seed, tuple(damaged), lengths)
    loading = LoaderSettings(CPU, workers)
    plan = StreamPlan(lengths, batch, batch, 0, 1, max(1, workers), seed)
    loader = StreamTrainLoader(objects, objects, plan, loading, block=4)
    trained = list(loader.batches(0, 2 * plan.steps_per_epoch))
    seen = check(trained, seed)
    addressed = [n for one in trained for n in stacked(one.batch, "wanted").tolist()]
    assert len(addressed) == 2 * plan.steps_per_epoch * batch
    assert [b for a, b in zip(addressed, seen, strict=True) if a not in damaged] == [
        a for a in addressed if a not in damaged
    ]
    assert not set(seen) & damaged
    loader_of_all = StreamEvalLoader(objects, objects, loading, on_bad="skip")
    evaluated = check(list(loader_of_all.batches(0, 1, batch)), seed)
    assert sorted(evaluated) == [n for n in range(sum(lengths)) if n not in damaged]


def test_a_worker_sends_a_ragged_field_in_one_piece() -> None:
    """As one tensor each, 20 batches of 64 samples would hold 5,120 file descriptors open."""
    objects = Objects(1280, 3)
    kept = list(EvalLoader(objects, objects, LoaderSettings(CPU, 2, prefetch=10)).batches(0, 1, 64))
    assert check(kept, 3) == list(range(1280))
    for one in kept:
        for name in Objects.ragged:
            values = ragged(one.batch, name)
            assert not any(value.is_shared() for value in values)
            assert len({value.untyped_storage().data_ptr() for value in values}) == 1
