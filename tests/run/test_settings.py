"""Durations and options of a config as the loop's numbers of steps."""

from __future__ import annotations

import pytest
from configs import compose_train

from hornet_train.data.order import EpochPlan
from hornet_train.errors import ConfigError
from hornet_train.run.settings import resolve_schedule, resolve_settings

PLAN = EpochPlan(samples=100, batch_size=10, micro_batch_size=5, rank=0, world_size=1, seed=0, drop_last=True)


def test_durations_become_steps() -> None:
    config = compose_train(
        ["epochs=4", "log.every=3it", "eval.every=50%", "checkpoint.every=1ep", "guard.window=0.5ep"]
    ).config
    settings = resolve_settings(config, PLAN, 5)
    assert (settings.total_steps, settings.log_every, settings.eval_every) == (40, 3, 20)
    assert (settings.checkpoint_every, settings.guard.window, settings.eval_batch_size) == (10, 5, 5)


def test_the_schedule_begins_at_nothing_peaks_after_the_warmup_and_ends_at_its_floor() -> None:
    config = compose_train(["epochs=4", "schedule.warmup=1ep", "optim.lr=0.5", "schedule.min_lr=0.01"]).config
    rate = resolve_schedule(config, PLAN)
    assert rate(0) == 0
    assert rate(10) == pytest.approx(0.5, rel=0.01)
    assert rate(39) == pytest.approx(0.01, abs=0.01)


def test_all_faults_are_reported_at_once() -> None:
    config = compose_train(["epochs=4", "log.every=0.01ep", "schedule.warmup=41it"]).config
    with pytest.raises(ConfigError) as caught:
        resolve_settings(config, PLAN, 5)
    assert "log.every=0.01ep is less than a step" in str(caught.value)
    assert "schedule.warmup=41it (41 steps) is longer than the run (40 steps)" in str(caught.value)
