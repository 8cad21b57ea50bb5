"""Durations: what is accepted, what is refused in which words, and that their text loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from configs import compose_train
from hypothesis import example, given
from hypothesis import strategies as st

from hornet_train.config.compose import to_yaml
from hornet_train.config.duration import Duration
from hornet_train.config.stored import read_config
from hornet_train.errors import ConfigError

LENGTHS = (
    "schedule.warmup",
    "log.every",
    "eval.every",
    "checkpoint.every",
    "guard.window",
    "augment.grow_until",
)
numbers = st.floats(0, 1e15) | st.integers(0, 10**15).map(float)


def faults(*overrides: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as raised:
        compose_train(list(overrides))
    return raised.value.faults


@given(
    st.builds(Duration, numbers, st.just("ep"))
    | st.builds(Duration, st.integers(0, 10**15).map(float), st.just("it"))
    | st.builds(Duration, st.floats(0, 100), st.just("%"))
)
@example(Duration(1000.0334, "ep"))
@example(Duration(100000.5, "ep"))
@example(Duration(1e15, "it"))
@example(Duration(5e-324, "%"))
def test_the_text_of_a_duration_is_that_duration(duration: Duration) -> None:
    assert Duration.parse(str(duration)) == duration


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("300ep", "300ep"),
        ("300.0ep", "300ep"),
        ("1e3ep", "1000ep"),
        ("1E3 ep", "1000ep"),
        ("1_000it", "1000it"),
        ("0.1ep", "0.1ep"),
        (".5%", "0.5%"),
        ("-0ep", "0ep"),
        ("200000it", "200000it"),
    ],
)
def test_a_duration_is_stored_in_one_form(text: str, stored: str) -> None:
    assert str(Duration.parse(text)) == stored


@pytest.mark.parametrize(
    ("given_", "stored"),
    [
        ("1.5", "1.5ep"),
        ("2.0", "2ep"),
        ("300", "300ep"),
        ("'300'", "300ep"),
        ("1e3", "1000ep"),
        ("1_000", "1000ep"),
        ("1000.0334", "1000.0334ep"),
        ("1000.0334ep", "1000.0334ep"),
        ("0.5", "0.5ep"),
        ("7it", "7it"),
    ],
)
def test_a_bare_number_of_epochs(given_: str, stored: str) -> None:
    composed = compose_train([f"epochs={given_}", "schedule.warmup=0ep"])
    assert composed.tree["epochs"] == stored
    assert composed.config.epochs == Duration.parse(stored)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("0.5", "0.5: a duration has a unit: 0.5ep (epochs) or 0.5% (of the run)"),
        ("2", "2: a duration has a unit: 2ep (epochs), 2it (steps) or 2% (of the run)"),
        ("2.0", "2.0: a duration has a unit: 2ep (epochs), 2it (steps) or 2% (of the run)"),
        ("1e3", "1000.0: a duration has a unit: 1000ep (epochs) or 1000it (steps)"),
        ("1_000", "1000: a duration has a unit: 1000ep (epochs) or 1000it (steps)"),
        ("100.5", "100.5: a duration has a unit: 100.5ep (epochs)"),
        ("null", " is missing: give it a value"),
    ],
)
def test_a_bare_number_elsewhere_is_reported_with_durations_that_are_accepted(
    value: str, message: str
) -> None:
    found = faults("augment.start_size=16", *(f"{key}={value}" for key in LENGTHS))
    assert set(found) == {f"{key}{message}" if value == "null" else f"{key}={message}" for key in LENGTHS}
    if value != "null":
        for word in message.split("unit: ")[1].split():
            assert not word[0].isdigit() or Duration.parse(word)


@pytest.mark.parametrize(
    ("value", "shown", "message"),
    [
        ("-1", "-1", "0 or more"),
        ("-1ep", "-1ep", "0 or more"),
        ("-0.5", "-0.5", "0 or more"),
        ("nan", "nan", "0 or more"),
        ("inf", "inf", "at most 1e15"),
        ("infep", "infep", "at most 1e15"),
        ("1e400ep", "1e400ep", "at most 1e15"),
        ("1e300ep", "1e300ep", "at most 1e15"),
        ("9007199254740993it", "9007199254740993it", "at most 1e15"),
        ("soon", "soon", "a number with its unit: 20ep (epochs)"),
        ("3epochs", "3epochs", "a number with its unit: 20ep (epochs)"),
        ("ep", "ep", "a number with its unit: 20ep (epochs)"),
        ("true", "True", "a number with its unit: 20ep (epochs)"),
        ("[1,2]", "[1, 2]", "a number with its unit: 20ep (epochs)"),
        ("{value: 3, unit: ep}", "{'value': 3, 'unit': 'ep'}", "a number with its unit: 20ep (epochs)"),
        ("1.5it", "1.5it", "whole number"),
        ("150%", "150%", "at most 100%"),
    ],
)
def test_what_is_no_duration_is_reported_with_key_and_value(value: str, shown: str, message: str) -> None:
    keys = ("epochs", *LENGTHS)
    found = faults("augment.start_size=16", *(f"{key}={value}" for key in keys))
    assert len(found) == len(keys)
    for key in keys:
        (fault,) = [fault for fault in found if fault.startswith(f"{key}={shown}: ")]
        assert message in fault
        assert key != "epochs" or "5% (of the run)" not in fault  # which a run's own length cannot be


def test_milestones_are_reported_one_by_one() -> None:
    (fault,) = faults("schedule=multistep", "schedule.milestones=[3ep,5]")
    assert fault.startswith("schedule.milestones.1=5: a duration has a unit: 5ep (epochs)")


@pytest.mark.parametrize(
    ("key", "value"), [("dist.timeout_minutes", "1e300"), ("checkpoint.max_minutes", "nan")]
)
def test_minutes_that_no_clock_counts_are_reported(key: str, value: str) -> None:
    (fault,) = faults(f"{key}={value}")
    assert fault.startswith(f"{key}=")


@given(st.floats(allow_nan=False, allow_infinity=False), numbers)
def test_config_yaml_keeps_numbers_to_the_last_digit(
    tmp_path_factory: pytest.TempPathFactory, number: float, epochs: float
) -> None:
    file = tmp_path_factory.mktemp("run") / "config.yaml"
    tree = {"optim": {"lr": number}, "epochs": str(Duration(epochs, "ep"))}
    file.write_text(to_yaml(tree))
    assert read_config(file) == tree


def test_a_repetition_has_the_same_durations_and_numbers(tmp_path: Path) -> None:
    given_ = [
        "epochs=1000.0334",
        "schedule.warmup=12.34567891ep",
        "log.every=123456.5ep",
        "optim.lr=0.00123456789012345",
        "model.args.scale=0.1234567890123",
    ]
    first = compose_train(given_)
    assert first.config.epochs.value == 1000.0334
    (tmp_path / "config.yaml").write_text(first.yaml())
    again = compose_train([f"from={tmp_path}"])
    assert again.tree == first.tree
    assert again.config == first.config


@pytest.mark.parametrize("value", ["inf", "[1.0,{a: nan}]"])
def test_numbers_that_a_config_would_not_keep_are_refused_in_free_arguments(value: str) -> None:
    (fault,) = faults(f"model.args.scale={value}")
    assert fault.startswith("model.args=")
    assert "is not a finite number" in fault
