"""The plan of a run: the ranks share the steps that one process would make."""

from __future__ import annotations

import torch
from configs import compose_train
from helpers import TINY

from hornet_train.data.order import EpochPlan
from hornet_train.engine.distributed import World
from hornet_train.run.loaders import train_plan
from hornet_train.tasks.table import kit_of


def plan_of(rank: int, ranks: int) -> EpochPlan:
    kit = kit_of("classification")
    config = compose_train([*TINY, "micro_batch_size=4"], world_size=ranks).config
    world = World(rank, ranks, torch.device("cpu"))
    plan = train_plan(kit, kit.open_data(config.data), config, world, micro_batch_size=4)
    assert isinstance(plan, EpochPlan)
    return plan


def test_two_ranks_share_the_steps_of_one() -> None:
    """Of 40 images, in steps of 16, 16 and 8."""
    alone, ranks = plan_of(0, 1), [plan_of(rank, 2) for rank in (0, 1)]
    for step, size in enumerate((16, 16, 8)):
        assert alone.step_size(step) == size
        assert [plan.step_size(step) for plan in ranks] == [size, size]
        assert sum(sum(plan.micro_sizes(step)) for plan in ranks) == sum(alone.micro_sizes(step)) == size
        seen = [a.index for plan in ranks for micro in plan.addresses(step) for a in micro]
        assert sorted(seen) == sorted(a.index for micro in alone.addresses(step) for a in micro)
