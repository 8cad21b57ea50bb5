"""Streams: every sample once, whatever reads them; a resume goes on where it was; uneven shards: refused."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hornet_train.data.loader import LoaderSettings
from hornet_train.data.sources.source import Encoded, Fields
from hornet_train.data.stream_plan import StreamPlan
from hornet_train.data.streaming import StreamEvalLoader, StreamTrainLoader
from hornet_train.errors import DataError
from hornet_train.tasks.classification.samples import EvalSamples, TrainSamples
from hornet_train.tasks.classification.transforms import EvalTransform, TrainTransform

WHOLE = TrainTransform(4, scale=(1.0, 1.0), ratio=(1.0, 1.0), hflip=0.5)


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (6, 6), (value % 256, value // 256, 7)).save(file, "PNG")
    return file.getvalue()


@dataclass
class Numbered:
    """Sample i of all is of one colour, which tells i; some are damaged."""

    lengths: tuple[int, ...]
    damaged: tuple[int, ...] = ()
    short: int = 0
    classes: tuple[str, ...] = ("a", "b")
    fingerprint: str = ""
    starts: list[tuple[int, int]] = field(default_factory=list)

    def read(self, shard: int, start: int) -> Iterator[Fields]:
        self.starts.append((shard, start))
        first = sum(self.lengths[:shard])
        for at in range(start, self.lengths[shard] - self.short):
            index = first + at
            data = b"damaged" if index in self.damaged else png(index)
            yield {"image": Encoded(data, f"shard {shard}, sample {at}"), "label": index % 2}


EVALUATED = EvalSamples(EvalTransform(4, 1.0))


def settings_of(workers: int) -> LoaderSettings:
    return LoaderSettings(torch.device("cpu"), workers)


def train_loader(shards: Numbered, plan: StreamPlan, workers: int, *, block: int) -> StreamTrainLoader:
    samples = TrainSamples(WHOLE, plan.seed)
    return StreamTrainLoader(shards, samples, plan, settings_of(workers), block=block)


def numbers(images: torch.Tensor) -> list[int]:
    return (images[:, 0, 0, 0].int() + 256 * images[:, 1, 0, 0].int()).tolist()


def trained(
    shards: Numbered, plan: StreamPlan, first: int, total: int, *, workers: int = 0, block: int = 5
) -> list[list[int]]:
    loader = train_loader(shards, plan, workers, block=block)
    return [numbers(loaded.batch["image"]) for loaded in loader.batches(first, total)]


@given(
    shards_each=st.integers(1, 3),
    world=st.integers(1, 3),
    workers=st.integers(1, 3),
    micro=st.integers(1, 3),
    accumulate=st.integers(1, 3),
    length=st.integers(9, 20),  # at least a step of one process
)
@settings(deadline=None, max_examples=40)
def test_an_epoch_visits_each_sample_at_most_once_and_drops_what_it_says(
    shards_each: int, world: int, workers: int, micro: int, accumulate: int, length: int
) -> None:
    shards = Numbered(tuple(length + k % 2 for k in range(shards_each * world * workers)))
    seen: Counter[int] = Counter()
    for rank in range(world):
        batch = world * micro * accumulate
        plan = StreamPlan(shards.lengths, batch, micro, rank, world, workers, seed=3)
        steps = plan.steps_per_epoch
        epochs = [Counter[int](), Counter[int]()]
        # without worker processes, the one process plays every worker's part in turn
        for i, batch_numbers in enumerate(trained(shards, plan, 0, 2 * steps)):
            epochs[i // (steps * accumulate)].update(batch_numbers)
        assert all(set(epoch.values()) == {1} for epoch in epochs)
        seen += epochs[1]
    assert set(seen.values()) == {1}
    assert sum(seen.values()) == plan.samples - plan.dropped


@pytest.mark.parametrize(("workers", "accumulate"), [(1, 1), (2, 1), (2, 3)])
def test_a_resumed_stream_goes_on_where_it_was(workers: int, accumulate: int) -> None:
    shards = Numbered((9, 11, 10, 9))
    plan = StreamPlan(shards.lengths, 2 * accumulate, 2, 0, 1, workers, seed=3)
    steps = plan.steps_per_epoch
    whole = trained(shards, plan, 0, 2 * steps, workers=workers)
    for step in (1, steps // 2, steps - 1, steps, steps + 3):
        rest = trained(shards, plan, step, 2 * steps, workers=workers)
        assert rest == whole[step * accumulate :], f"resumed at step {step} of {steps} an epoch"
    assert whole[: steps * accumulate] != whole[steps * accumulate :]
    shards.starts.clear()
    trained(Numbered(shards.lengths), plan, steps - 1, steps)
    alone = StreamPlan(shards.lengths, 2, 2, 0, 1, 1, seed=3)
    trained(shards, alone, alone.steps_per_epoch - 1, alone.steps_per_epoch)
    assert len(shards.starts) == 1, "read shards from before"
    assert shards.starts[0][1] > 0, "read the shard from its beginning"


def test_worker_processes_change_nothing_but_who_reads() -> None:
    shards = Numbered((8,) * 6)
    for world, workers in ((1, 2), (2, 3)):
        for rank in range(world):
            plan = StreamPlan(shards.lengths, 2 * world, 2, rank, world, workers, seed=1)
            steps = plan.steps_per_epoch
            assert trained(shards, plan, 0, steps, workers=workers) == trained(shards, plan, 0, steps)


@pytest.mark.parametrize(
    ("shards", "world", "workers", "message"),
    [
        (3, 1, 2, "data.workers=1 or data.workers=3 would do; or hornet-data pack --shards=4"),
        (5, 2, 1, "2 processes need a multiple of 2 shards"),
    ],
)
def test_shards_that_cannot_be_dealt_out_are_refused(
    shards: int, world: int, workers: int, message: str
) -> None:
    with pytest.raises(DataError) as caught:
        StreamPlan((10,) * shards, 4, 2, 0, world, workers, seed=0)
    assert message in str(caught.value)


def test_too_few_samples_for_a_step_are_refused() -> None:
    with pytest.raises(DataError, match="no whole step of batch_size=64"):
        StreamPlan((10,) * 4, 64, 64, 0, 1, 2, seed=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_samples_are_replaced_by_others_of_their_batch(workers: int) -> None:
    damaged = (3, 17)
    shards = Numbered((10, 10, 10, 10), damaged)
    plan = StreamPlan(shards.lengths, 5, 5, 0, 1, max(workers, 1), seed=3)
    loader = train_loader(shards, plan, workers, block=6)
    loaded = list(loader.batches(0, plan.steps_per_epoch))
    assert {bad.index for one in loaded for bad in one.bad} <= set(damaged)
    hit = [one for one in loaded if one.bad]
    assert hit
    for one in hit:
        assert one.bad[0].where.startswith("shard ")
        counts = Counter(numbers(one.batch["image"]))
        assert sum(counts.values()) == 5
        assert not set(counts) & set(damaged)
        assert max(counts.values()) > 1
    everything = Numbered((10, 10), tuple(range(20)))
    plan = StreamPlan(everything.lengths, 5, 5, 0, 1, max(workers, 1), seed=3)
    with pytest.raises(DataError, match=r"^shard \d, sample \d: cannot be decoded"):
        list(train_loader(everything, plan, workers, block=6).batches(0, 1))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shard_that_shrank_is_reported_without_a_traceback(workers: int) -> None:
    shards = Numbered((10, 10), short=3)
    plan = StreamPlan(shards.lengths, 5, 5, 0, 1, max(workers, 1), seed=3)
    loader = train_loader(shards, plan, workers, block=20)
    with pytest.raises(DataError, match=r"^shard \d of 2 ends after 7 of 10 samples .*written again"):
        list(loader.batches(0, plan.steps_per_epoch))


@given(
    world=st.integers(1, 3),
    batch=st.integers(1, 7),
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=5),
)
@settings(deadline=None, max_examples=40)
def test_an_evaluation_reads_each_sample_once(world: int, batch: int, lengths: list[int]) -> None:
    loader = StreamEvalLoader(Numbered(tuple(lengths)), EVALUATED, settings_of(0))
    batches = [list(loader.batches(rank, world, batch)) for rank in range(world)]
    assert [loader.batch_count(rank, world, batch) for rank in range(world)] == [*map(len, batches)]
    found = [n for of_rank in batches for loaded in of_rank for n in numbers(loaded.batch["image"])]
    assert sorted(found) == list(range(sum(lengths)))
    assert len(loader) == sum(lengths)


def test_workers_make_batches_of_their_own() -> None:
    loader = StreamEvalLoader(Numbered((5, 4, 7, 2, 1)), EVALUATED, settings_of(2))
    counts = [loader.batch_count(rank, 2, 3) for rank in range(2)]
    assert counts == [len(list(loader.batches(rank, 2, 3))) for rank in range(2)] == [2 + 2, 3 + 1]


def test_an_evaluation_stops_at_a_damaged_sample_or_skips_it() -> None:
    shards = Numbered((4, 4), (5,))
    with pytest.raises(DataError, match=r"^shard 1, sample 1: "):
        list(StreamEvalLoader(shards, EVALUATED, settings_of(2)).batches(0, 1, 3))
    skips = StreamEvalLoader(shards, EVALUATED, settings_of(2), on_bad="skip")
    loaded = list(skips.batches(0, 1, 1))
    assert [bad.index for one in loaded for bad in one.bad] == [5]
    assert sorted(n for one in loaded if one.batch for n in numbers(one.batch["image"])) == [
        0,
        1,
        2,
        3,
        4,
        6,
        7,
    ]


def test_flips_are_drawn_by_address() -> None:
    """The augmentation is that of (seed, epoch, index): the same however the stream is cut."""
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)) for _ in range(12)]

    class Random(Numbered):
        def read(self, shard: int, start: int) -> Iterator[Fields]:
            for at in range(start, self.lengths[shard]):
                file = io.BytesIO()
                pictures[sum(self.lengths[:shard]) + at].save(file, "PNG")
                yield {"image": Encoded(file.getvalue(), ""), "label": sum(self.lengths[:shard]) + at}

    found: list[dict[int, bytes]] = []
    for micro in (1, 3):
        plan = StreamPlan((6, 6), 3, micro, 0, 1, 2, seed=4)
        loader = train_loader(Random((6, 6)), plan, 0, block=4)
        batches = [loaded.batch for loaded in loader.batches(0, plan.steps_per_epoch)]
        found.append(
            {
                int(label): image.numpy().tobytes()
                for batch in batches
                for label, image in zip(batch["label"], batch["image"], strict=True)
            }
        )
    both = found[0].keys() & found[1].keys()
    assert len(both) >= 6
    assert all(found[0][label] == found[1][label] for label in both)
