"""A batch size for small data, where nobody gives one: what it is, and that it stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from configs import compose_train

from hornet_train.errors import ConfigError
from hornet_train.run.follow_data import follow_data, suitable_batch_size
from hornet_train.tasks.table import kit_of

KIT = kit_of("classification")
SMALL = ["data=synthetic", "data.val_count=4", "data.num_classes=2"]


@pytest.mark.parametrize(
    ("samples", "processes", "size"),
    [
        *((1, 1, 1), (5, 1, 4), (8, 1, 8), (48, 1, 8), (159, 1, 8), (160, 1, 16), (1000, 1, 64)),
        *((10_000, 1, 512), (40_959, 1, 2048), (40_960, 1, 4096), (1_281_167, 1, 4096)),
        *((1000, 2, 64), (1000, 3, 63), (1000, 64, 64), (12, 16, 16)),
    ],
)
def test_an_epoch_has_ten_steps_where_there_are_images_for_them(
    samples: int, processes: int, size: int
) -> None:
    assert suitable_batch_size(samples, 4096, processes) == size


def followed(count: int, *overrides: str) -> Any:
    return follow_data(KIT, compose_train([*SMALL, f"data.train_count={count}", *overrides]), 1)[0]


def test_the_rate_goes_along_with_the_batch_size_and_both_are_stored() -> None:
    one = followed(1000)
    assert (one.config.batch_size, one.config.optim.lr) == (64, 5e-4)  # 4e-3 x (64 / 4096)^0.5
    assert (one.tree["batch_size"], one.tree["optim"]["lr"]) == (64, 5e-4)
    assert "batch_size=64 optim.lr=0.0005: for 1,000 training images, in place of 4096" in one.notes[0]
    given = followed(1000, "optim.lr=1e-3")
    assert (given.config.batch_size, given.config.optim.lr) == (64, 1e-3)
    assert "optim.lr" not in given.notes[0]


@pytest.mark.parametrize(
    "overrides",
    [
        [*SMALL, "data.train_count=1000", "batch_size=500"],
        [*SMALL, "data.train_count=50000"],
        [],  # the digits
    ],
)
def test_nothing_changes_where_it_is_given_or_fits(overrides: list[str]) -> None:
    composed = compose_train(overrides)
    assert follow_data(KIT, composed, 1)[0] is composed


def test_a_run_keeps_its_own_when_images_go(tmp_path: Path) -> None:
    first = followed(1280, f"run_dir={tmp_path}")
    assert first.config.batch_size == 128
    (tmp_path / "config.yaml").write_text(first.yaml())
    again = followed(1279, f"run_dir={tmp_path}")
    assert (again.config.batch_size, again.config.optim.lr) == (128, first.config.optim.lr)
    assert "as the run in run_dir has it" in again.notes[0]
    assert followed(1279, f"run_dir={tmp_path}", "resume=restart").config.batch_size == 64
    assert compose_train([f"from={tmp_path}"]).config.batch_size == 128
    old = yaml.safe_load(first.yaml()) | {"batch_size": 4096}  # of a version without this
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(old))
    kept = followed(5000, f"run_dir={tmp_path}")
    assert (kept.config.batch_size, kept.notes) == (4096, ())


def test_settings_that_do_not_suit_the_new_rate_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"schedule.min_lr=0.001 is above the peak, optim.lr=0.0005"):
        followed(1000, "schedule.min_lr=1e-3")
