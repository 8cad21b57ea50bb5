"""After a change of the batch size every image of the epoch is seen once, on any number of ranks."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hornet_train.data.order import EpochPlan
from hornet_train.engine.calendar import Calendar, calendar_of, is_calendar


def plan_of(samples: int, size: int, *, rank: int = 0, world: int = 1, drop: bool = False) -> EpochPlan:
    return EpochPlan(samples, size, -(-size // world), rank, world, seed=3, drop_last=drop)


def calendar(plan: EpochPlan) -> Calendar:
    return Calendar(plan.samples, plan.batch_size, plan.steps_per_epoch)


def seen_by(plan: EpochPlan, calendar: Calendar, steps: range) -> list[tuple[int, int]]:
    """(epoch, image) of all images of some steps, without stand-ins."""
    found = []
    for step in steps:
        place = calendar.place(step)
        seen = calendar.seen_at(place)
        sizes, batches = plan.micro_sizes(place, seen), plan.addresses(place, seen)
        for size, addresses in zip(sizes, batches, strict=True):
            found += [(one.epoch, one.index) for one in addresses[:size]]
    return found


@settings(deadline=None)
@given(
    samples=st.integers(8, 60),
    sizes=st.lists(st.integers(1, 8), min_size=2, max_size=4),
    lengths=st.lists(st.integers(0, 9), min_size=3, max_size=3),
    world=st.sampled_from([1, 2]),
)
def test_each_image_is_seen_once_in_each_epoch(
    samples: int, sizes: list[int], lengths: list[int], world: int
) -> None:
    first = step = 0
    found: list[tuple[int, int]] = []
    now = None
    for size, length in zip(sizes, [*lengths, 0], strict=False):
        plans = [plan_of(samples, size, rank=rank, world=world) for rank in range(world)]
        own = calendar(plans[0])
        now = own if now is None else own.going_on(now, step)
        first, step = step, step + length
        for plan in plans:
            found += seen_by(plan, now, range(first, step))
    assert now is not None
    end = now.shift + 3 * plans[0].steps_per_epoch  # of the third epoch
    for plan in plans:
        found += seen_by(plan, now, range(step, end))
    if now.epoch(step) <= 3:  # else it was past the third epoch before
        assert sorted(found) == [(epoch, image) for epoch in range(3) for image in range(samples)]
        assert now.epoch(end) == 3


@pytest.mark.parametrize(
    ("before", "step", "after", "position", "shift"),
    [
        ((48, 8, 6), 3, (48, 12, 4), (0, 24), 1),
        ((48, 8, 6), 9, (48, 12, 4), (1, 24), 3),
        ((48, 8, 6), 3, (48, 4, 12), (0, 24), -3),
        ((48, 8, 6), 1, (48, 12, 4), (0, 8), 1),
        ((48, 8, 6), 12, (48, 12, 4), (2, 0), 4),
        ((48, 8, 6), 3, (96, 8, 12), (0, 48), -3),  # more images: the same share
        ((40, 16, 2), 1, (40, 30, 1), (0, 16), 1),
        ((40, 16, 3), 2, (40, 30, 1), (1, 0), 1),  # image 32 is among those that drop_last leaves out
    ],
)
def test_the_position_is_what_was_seen(
    before: tuple[int, int, int],
    step: int,
    after: tuple[int, int, int],
    position: tuple[int, int],
    shift: int,
) -> None:
    now = Calendar(*after).going_on(Calendar(*before), step)
    assert now.position(step) == position
    assert now.shift == shift
    assert calendar_of(json.loads(json.dumps({"calendar": now.to_json()}))) == now


def test_a_step_that_would_be_too_small_or_of_a_stream_is_made_again() -> None:
    before = Calendar(48, 8, 6)
    assert Calendar(48, 9, 6).going_on(before, 1).position(1) == (0, 8)
    plan = EpochPlan(48, 9, 2, 0, 1, seed=3, drop_last=False)
    for seen, fits in ((3, True), (6, False), (8, False)):  # 2, 2, 2; then 2, 1; and 1
        assert (plan.smallest_micro_batch(0, seen) > 1) == fits
    alone = Calendar(48, 9, 6, fits=lambda place, seen: plan.smallest_micro_batch(place, seen) > 1)
    assert alone.going_on(before, 1).position(1) == (0, 0)
    assert Calendar(48, 9, 6, whole=True).going_on(before, 2).position(2) == (0, 9)


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        5,
        {},
        {"samples": 0},
        {"other": 1},
        {"batch_size": 0},
        {"seen": 8},
        {"shift": 1.5},
        {"begin": -1},
    ],
)
def test_a_calendar_of_an_untrusted_file_is_checked(wrong: object) -> None:
    good = Calendar(48, 8, 6).to_json()
    assert is_calendar(good)
    assert not is_calendar(
        {**good, **wrong} if isinstance(wrong, dict) and len(wrong) == 1 and "samples" not in wrong else wrong
    )
