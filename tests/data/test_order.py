"""Who sees which sample when: for any number of ranks, micro-batches and workers, and after a resume."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hornet_train.data.address import SampleDraws, batch_rng, device_seed, epoch_order, sample_rng
from hornet_train.data.collate import OnBad
from hornet_train.data.loader import EvalLoader, LoaderSettings, TrainLoader
from hornet_train.data.order import (
    BLOCK,
    SPARES,
    Address,
    EpochPlan,
    Shapes,
    evaluation_shard,
    micro_batches,
    spares_of,
)
from hornet_train.data.sources.source import Fields
from hornet_train.errors import SampleError

PLAN = EpochPlan(samples=50, batch_size=16, micro_batch_size=4, rank=0, world_size=1, seed=3, drop_last=False)


def addresses_of(plan: EpochPlan, step: int) -> list[Address]:
    """This rank's samples of a step, without stand-ins."""
    chunks = zip(plan.addresses(step), plan.micro_sizes(step), strict=True)
    return [address for chunk, size in chunks if size for address in chunk]


@given(
    samples=st.integers(1, 200),
    share=st.integers(1, 12),
    micro=st.integers(1, 12),
    world=st.integers(1, 5),
    drop_last=st.booleans(),
    epoch=st.integers(0, 3),
)
@settings(deadline=None, max_examples=150)
def test_an_epoch_visits_each_sample_once(
    samples: int, share: int, micro: int, world: int, drop_last: bool, epoch: int
) -> None:
    batch = share * world
    plans = [EpochPlan(samples, batch, micro, rank, world, 7, drop_last) for rank in range(world)]
    alone = replace(plans[0], rank=0, world_size=1)
    per_epoch = plans[0].steps_per_epoch
    seen: Counter[int] = Counter()
    for step in range(epoch * per_epoch, (epoch + 1) * per_epoch):
        whole = addresses_of(alone, step)
        ranks = [addresses_of(plan, step) for plan in plans]
        assert [address for rank in ranks for address in rank] == whole, (
            "other images, or others to stand in for them, than one rank"
        )
        assert len(whole) == alone.step_size(step)
        for plan, rank in zip(plans, ranks, strict=True):
            mine = [address.index for address in rank]
            sizes = plan.micro_sizes(step)
            addresses = plan.addresses(step)
            assert len(sizes) == len(addresses) >= 1, "every rank takes part in every step"
            assert sum(sizes) == len(mine)
            assert max(sizes) <= micro
            assert [len(chunk) for chunk in addresses] == [size or min(2, micro) for size in sizes]
            for chunk, size in zip(addresses, sizes, strict=True):
                assert size or {address.index for address in chunk} == {whole[0].index}
        seen.update(address.index for address in whole)
        for address in whole:
            assert address.index not in address.spares
            assert {*address.spares[:SPARES]} <= {other.index for other in whole} or len(whole) == 1
    assert set(seen.values()) <= {1}
    assert len(seen) == samples - alone.dropped
    assert alone.dropped == (samples % batch if drop_last else 0)


@given(
    samples=st.integers(1, 200), share=st.integers(1, 24), micro=st.integers(1, 12), world=st.integers(1, 5)
)
@settings(deadline=None, max_examples=150)
def test_all_ranks_have_equally_many_micro_batches(samples: int, share: int, micro: int, world: int) -> None:
    """A sharded model's passes are collectives: a rank with one more than another would wait for ever."""
    plans = [EpochPlan(samples, share * world, micro, rank, world, 7, False) for rank in range(world)]
    for step in range(plans[0].steps_per_epoch):
        sizes = [plan.micro_sizes(step) for plan in plans]
        assert len({len(of_rank) for of_rank in sizes}) == 1
        smallest = min(size for of_rank in sizes for size in of_rank if size)
        assert {plan.smallest_micro_batch(step) for plan in plans} == {smallest}


@pytest.mark.parametrize(
    ("images", "micro", "sizes"),
    [
        (12, 4, [4, 4, 4]),
        (11, 4, [4, 4, 3]),
        (10, 4, [4, 4, 2]),
        (9, 4, [3, 3, 3]),
        (5, 4, [2, 3]),
        (4, 3, [2, 2]),
        (1, 4, [1]),
        (3, 2, [2, 1]),
        (3, 1, [1, 1, 1]),
        (0, 4, []),
    ],
)
def test_an_image_is_alone_only_where_that_cannot_be_avoided(
    images: int, micro: int, sizes: list[int]
) -> None:
    """Other steps are cut as they always were, so that runs go on bit for bit."""
    assert micro_batches(images, micro) == sizes


@given(images=st.integers(1, 300), micro=st.integers(1, 20))
def test_micro_batches_are_few_and_not_of_one_image(images: int, micro: int) -> None:
    sizes = micro_batches(images, micro)
    assert sum(sizes) == images
    assert max(sizes) <= micro
    assert len(sizes) == -(-images // micro)
    unavoidable = images == 1 or micro == 1 or (micro == 2 and images % 2)
    assert (min(sizes) == 1) == bool(unavoidable)


def test_order_depends_on_seed_and_epoch_alone() -> None:
    assert epoch_order(3, 1, 50).tolist() == epoch_order(3, 1, 50).tolist()
    orders = {tuple(epoch_order(seed, epoch, 50)) for seed in (3, 4) for epoch in (0, 1)}
    assert len(orders) == 4


def test_addresses_do_not_share_draws() -> None:
    """Neighbouring addresses of every kind give different numbers."""
    draws = [
        *(sample_rng(0, epoch, index).random() for epoch in range(5) for index in range(50)),
        *(batch_rng(0, step, rank, m).random() for step in range(5) for rank in range(4) for m in range(4)),
    ]
    assert len(set(draws)) == len(draws)
    seeds = {device_seed(0, step, rank, m) for step in range(20) for rank in range(4) for m in range(4)}
    assert len(seeds) == 320


def test_a_generator_turned_to_an_address_is_as_new() -> None:
    draws = SampleDraws()
    for address in [(0, 0, 0), (3, 7, 1_281_166, 2), (2**63, 299, 5), (3, 7, 1_281_166, 2)]:
        one, other = draws.at(*address), sample_rng(*address)
        for rng in (one, other):
            rng.random(3)
            rng.integers(7, dtype=np.uint32)  # leaves half of a number for the next
        assert one.normal(size=5).tolist() == other.normal(size=5).tolist()


def test_a_worker_draws_what_its_parent_would() -> None:
    draws = SampleDraws()
    draws.at(1, 2, 3).random()
    arrived = pickle.loads(pickle.dumps(draws))  # as where workers are spawned
    assert arrived.at(4, 5, 6).random() == sample_rng(4, 5, 6).random()


@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.integers(0, 1000))
def test_nothing_stands_in_for_itself(images: list[int], seed: int) -> None:
    spares = spares_of(np.array(images), np.random.default_rng(seed))
    assert len(spares) == len(images)
    for image, others in zip(images, spares, strict=True):
        assert set(others) <= set(images) - {image}
        assert len(others) == (SPARES if len(set(images)) > 1 else 0)


def test_a_step_of_one_image_has_spares_of_its_epoch() -> None:
    plan = replace(PLAN, samples=7, batch_size=1, micro_batch_size=1)
    for step in range(7):
        ((address,),) = plan.addresses(step)
        assert len(address.spares) == SPARES
        assert address.index not in address.spares


def test_a_small_step_has_further_spares_of_its_epoch() -> None:
    """All of its few images may be damaged. The first spares are those of the step, as they were before."""
    plan = replace(PLAN, samples=40, batch_size=2, micro_batch_size=2)
    for step in range(20):
        ((one, two),) = plan.addresses(step)
        assert {*one.spares[:SPARES]} == {two.index}
        assert len(one.spares) == 2 * SPARES
        assert one.index not in one.spares
        assert {*one.spares} - {one.index, two.index}


@given(samples=st.integers(0, 60), world=st.integers(1, 7), batch=st.integers(1, 9))
def test_an_evaluation_counts_each_sample_once(samples: int, world: int, batch: int) -> None:
    shards = [list(evaluation_shard(samples, rank, world, batch)) for rank in range(world)]
    flat = [index for shard in shards for chunk in shard for index in [a.index for a in chunk]]
    assert sorted(flat) == list(range(samples))
    if samples:
        assert shards[0], "rank 0 has some wherever there are any"


def test_an_evaluation_knows_how_many_batches_each_rank_has() -> None:
    drawn = Drawn()
    data = EvalLoader(drawn, drawn, LoaderSettings(torch.device("cpu")))
    for world, batch in ((1, 8), (3, 8), (4, 3), (60, 1)):
        for rank in range(world):
            batches = len(list(data.batches(rank, world, batch)))
            assert data.batch_count(rank, world, batch) == batches


class Drawn:
    """Storage and samples in one: each tells its address and one draw from it; some may be damaged."""

    ragged = ()

    def __init__(self, damaged: tuple[int, ...] = ()) -> None:
        self.damaged = damaged
        self.seen: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return 50

    def read(self, index: int) -> Fields:
        return {"number": index}

    def decode(self, fields: Fields) -> int:
        number: int = fields["number"]
        if number in self.damaged:
            raise SampleError(f"photos/{number}.jpg", "it is damaged", "remove it")
        return number

    def nbytes(self, decoded: Any) -> int:  # noqa: ARG002
        return 3

    def make(self, address: Address, decoded: Any) -> dict[str, torch.Tensor | float]:
        self.seen.append((address.epoch, decoded))
        draw = sample_rng(3, address.epoch, address.index, address.repeat).random()
        return {"at": torch.tensor([address.epoch, address.index, decoded]), "draw": draw}


CPU = torch.device("cpu")


def train_loader(drawn: Drawn, plan: EpochPlan, workers: int = 0) -> TrainLoader:
    return TrainLoader(drawn, drawn, plan, LoaderSettings(CPU, workers))


def eval_loader(drawn: Drawn, workers: int = 0, *, on_bad: OnBad = "error") -> EvalLoader:
    return EvalLoader(drawn, drawn, LoaderSettings(CPU, workers), on_bad=on_bad)


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(workers: int) -> None:
    loaders = [train_loader(Drawn(damaged=(7, 30)), PLAN, w) for w in (0, workers)]
    batches = [list(loader.batches(0, 5)) for loader in loaders]
    assert len(batches[0]) == 4 + 4 + 4 + 1 + 4
    for one, other in zip(*batches, strict=True):
        torch.testing.assert_close(one.batch, other.batch, rtol=0, atol=0)
        assert one.bad == other.bad


def test_a_resumed_loader_reads_nothing_of_what_came_before() -> None:
    whole, rest = Drawn(), Drawn()
    batches = [loaded.batch for loaded in train_loader(whole, PLAN).batches(0, 6)]
    before = sum(len(PLAN.micro_sizes(step)) for step in range(3))
    resumed = [loaded.batch for loaded in train_loader(rest, PLAN).batches(3, 6)]
    torch.testing.assert_close(resumed, batches[before:], rtol=0, atol=0)
    assert rest.seen == whole.seen[48:]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_what_stands_in_for_a_damaged_sample_is_of_its_step_on_any_number_of_ranks(world: int) -> None:
    damaged = (3, 13, 31)
    alone = list(train_loader(Drawn(damaged), replace(PLAN, drop_last=True)).batches(0, 3))
    together: dict[int, list[list[int]]] = {}
    for rank in range(world):
        plan = replace(PLAN, rank=rank, world_size=world, drop_last=True)
        for step in range(3):
            for loaded in train_loader(Drawn(damaged), plan).batches(step, step + 1):
                together.setdefault(step, []).extend(loaded.batch["at"].tolist())
    assert [row for step in range(3) for row in together[step]] == [
        row for loaded in alone for row in loaded.batch["at"].tolist()
    ]
    steps = {a.index: step for step in range(3) for a in addresses_of(PLAN, step)}
    replaced = [(index, image) for rows in together.values() for _, index, image in rows if index != image]
    assert {index for index, _ in replaced} == set(damaged) & set(steps)
    assert replaced, "no damaged sample came up"
    for index, image in replaced:
        assert steps[index] == steps[image]
    assert {bad.index for loaded in alone for bad in loaded.bad} == {index for index, _ in replaced}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_step_of_damaged_samples_is_reported_without_a_traceback(workers: int) -> None:
    everything = Drawn(damaged=tuple(range(50)))
    with pytest.raises(SampleError, match=r"^photos/\d+.jpg: it is damaged; remove it$"):
        list(train_loader(everything, PLAN, workers).batches(0, 1))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_evaluation_stops_at_a_damaged_sample_or_skips_it(workers: int) -> None:
    stops = eval_loader(Drawn(damaged=(13, 14)), workers)
    with pytest.raises(SampleError, match=r"^photos/13.jpg: it is damaged; remove it$"):
        list(stops.batches(0, 1, 8))
    skips = eval_loader(Drawn(damaged=(13, 14)), workers, on_bad="skip")
    loaded = [one for rank in range(2) for one in skips.batches(rank, 2, 1)]
    assert sorted(bad.where for one in loaded for bad in one.bad) == ["photos/13.jpg", "photos/14.jpg"]
    seen = [index for one in loaded if one.batch for index in one.batch["at"][:, 1].tolist()]
    assert sorted(seen) == [i for i in range(50) if i not in (13, 14)]


@pytest.mark.parametrize("micro", [1, 4])
def test_a_rank_without_samples_does_not_stumble_over_a_damaged_one(micro: int) -> None:
    plan = EpochPlan(
        samples=10, batch_size=4, micro_batch_size=micro, rank=0, world_size=4, seed=3, drop_last=False
    )
    assert plan.step_size(2) == 2
    idle = next(rank for rank in range(4) if not sum(replace(plan, rank=rank).micro_sizes(2)))
    first = replace(plan, rank=idle).addresses(2)[0][0].index
    (loaded,) = train_loader(Drawn(damaged=(first,)), replace(plan, rank=idle)).batches(2, 3)
    assert len(loaded.batch["at"]) == min(2, micro)
    assert loaded.bad[0].index == first


def test_repeated_augmentation_shows_each_image_several_times_in_a_step_otherwise_augmented() -> None:
    plan = replace(PLAN, samples=50, batch_size=15, repeats=3, drop_last=True)
    for step in range(plan.steps_per_epoch):
        addresses = addresses_of(plan, step)
        assert Counter(Counter(a.index for a in addresses).values()) == {3: 5}
        assert {a.repeat for a in addresses} == {0, 1, 2}
    draws = torch.cat([one.batch["draw"] for one in train_loader(Drawn(), plan).batches(0, 3)])
    assert len(set(draws.tolist())) == 45
    assert plan.steps_per_epoch == replace(plan, repeats=1).steps_per_epoch


def test_images_stay_channels_last_through_workers() -> None:
    class Pictures(Drawn):
        def decode(self, fields: Fields) -> torch.Tensor:
            pixels = np.random.default_rng(fields["number"]).integers(0, 256, (5, 7, 3), dtype=np.uint8)
            return torch.from_numpy(pixels).permute(2, 0, 1)

        def make(self, address: Address, decoded: Any) -> dict[str, torch.Tensor | float]:  # noqa: ARG002
            return {"image": decoded}

    for workers in (0, 2):
        batch = next(train_loader(Pictures(), PLAN, workers).batches(0, 1)).batch["image"]
        assert batch.shape == (4, 3, 5, 7)
        assert batch.is_contiguous(memory_format=torch.channels_last)
        first = addresses_of(PLAN, 0)[0].index
        assert torch.equal(batch[0], Pictures().decode({"number": first}))


def test_making_a_loader_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    next(train_loader(Drawn(), PLAN).batches(0, 1))
    assert torch.equal(torch.rand(3), expected)


@given(samples=st.integers(1, 400), batch=st.integers(1, 16), epoch=st.integers(0, 3), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=80)
def test_steps_of_like_shapes_visit_each_sample_once(samples: int, batch: int, epoch: int, seed: int) -> None:
    shapes = Shapes(np.random.default_rng(seed).uniform(0.3, 3, samples))
    plan = EpochPlan(samples, batch, batch, 0, 1, seed, drop_last=False, shapes=shapes)
    steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
    order = [address.index for step in steps for address in addresses_of(plan, step)]
    assert sorted(order) == list(range(samples))
    other = replace(plan, batch_size=samples, micro_batch_size=samples)
    assert order == [address.index for address in addresses_of(other, epoch)], "hangs on the batch size"


def test_steps_have_like_shapes_and_the_epochs_others() -> None:
    ratios = np.random.default_rng(0).uniform(0.3, 3, 1280)
    plan = EpochPlan(1280, BLOCK, 2, 0, 1, 5, drop_last=False, shapes=Shapes(ratios))
    plain = replace(plan, shapes=None)

    def spread(plan: EpochPlan, epoch: int) -> float:
        """Of the ratios in a step, on average."""
        steps = range(epoch * plan.steps_per_epoch, (epoch + 1) * plan.steps_per_epoch)
        return float(np.mean([np.ptp(ratios[[a.index for a in addresses_of(plan, s)]]) for s in steps]))

    assert spread(plan, 0) < 0.2 * spread(plain, 0)
    first = [{a.index for a in addresses_of(plan, step)} for step in (0, plan.steps_per_epoch)]
    assert len(first[0] & first[1]) < BLOCK // 2
    means = [ratios[[a.index for a in addresses_of(plan, step)]].mean() for step in range(8)]
    assert means not in (sorted(means), sorted(means, reverse=True)), "the shapes of steps come in order"
    ranks = [replace(plan, rank=rank, world_size=2) for rank in (0, 1)]
    both = [a for one in ranks for a in addresses_of(one, 3)]
    assert both == addresses_of(plan, 3)
