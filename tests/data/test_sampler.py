"""Who sees which sample when: for any number of ranks, micro-batches and workers, and after a resume."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hornet_train.data.address import batch_rng, device_seed, epoch_order, sample_rng
from hornet_train.data.loader import Loader
from hornet_train.data.sampler import EpochPlan, evaluation_shard
from hornet_train.errors import SampleError

PLAN = EpochPlan(samples=50, batch_size=16, micro_batch_size=4, rank=0, world_size=1, seed=3, drop_last=False)


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
        ranks = [plan.indices(step) for plan in plans]
        assert np.concatenate(ranks).tolist() == alone.indices(step).tolist(), "other images than one rank"
        assert sum(map(len, ranks)) == alone.step_size(step)
        for plan, mine in zip(plans, ranks, strict=True):
            sizes = plan.micro_sizes(step)
            addresses = plan.addresses(step)
            assert len(sizes) == len(addresses) >= 1, "every rank takes part in every step"
            assert sum(sizes) == len(mine)
            assert max(sizes) <= micro
            if len(mine):
                assert [i for chunk in addresses for _, i in chunk] == mine.tolist()
                assert [len(chunk) for chunk in addresses] == sizes
        seen.update(alone.indices(step).tolist())
    assert set(seen.values()) <= {1}
    assert len(seen) == samples - alone.dropped
    assert alone.dropped == (samples % batch if drop_last else 0)


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


@given(samples=st.integers(0, 60), world=st.integers(1, 7), batch=st.integers(1, 9))
def test_an_evaluation_counts_each_sample_once(samples: int, world: int, batch: int) -> None:
    shards = [evaluation_shard(samples, rank, world, batch) for rank in range(world)]
    flat = [index for shard in shards for chunk in shard for _, index in chunk]
    assert sorted(flat) == list(range(samples))
    if samples:
        assert shards[0], "rank 0 has some wherever there are any"


class Drawn:
    """Samples that tell their address and one draw from it; sample 13 may be damaged."""

    def __init__(self, damaged: bool = False) -> None:
        self.damaged = damaged
        self.read: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return 50

    def sample(self, epoch: int, index: int) -> dict[str, torch.Tensor | float]:
        if self.damaged and index == 13:
            raise SampleError("photos/13.jpg", "it is damaged", "remove it")
        self.read.append((epoch, index))
        return {"at": torch.tensor([epoch, index]), "draw": sample_rng(3, epoch, index).random()}


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(workers: int) -> None:
    loaders = [Loader(Drawn(), device=torch.device("cpu"), workers=w) for w in (0, workers)]
    batches = [list(loader.training(PLAN, 0, 5)) for loader in loaders]
    assert len(batches[0]) == 4 + 4 + 4 + 1 + 4
    for one, other in zip(*batches, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_resumed_loader_reads_nothing_of_what_came_before() -> None:
    whole, rest = Drawn(), Drawn()
    batches = list(Loader(whole, device=torch.device("cpu")).training(PLAN, 0, 6))
    before = sum(len(PLAN.micro_sizes(step)) for step in range(3))
    resumed = list(Loader(rest, device=torch.device("cpu")).training(PLAN, 3, 6))
    torch.testing.assert_close(resumed, batches[before:], rtol=0, atol=0)
    assert rest.read == whole.read[48:]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_sample_is_told_without_a_traceback(workers: int) -> None:
    loader = Loader(Drawn(damaged=True), device=torch.device("cpu"), workers=workers)
    with pytest.raises(SampleError, match=r"^photos/13.jpg: it is damaged; remove it$"):
        list(islice(loader.training(PLAN, 0, 4), 20))


def test_making_a_loader_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    next(Loader(Drawn(), device=torch.device("cpu")).training(PLAN, 0, 1))
    assert torch.equal(torch.rand(3), expected)
