"""What the text of a key means."""

from __future__ import annotations

import pytest
from configs import compose_train

from hornet_train.config.overrides import parse, path_value
from hornet_train.config.schema import Config
from hornet_train.errors import ConfigError


def test_variables_of_the_environment_are_replaced_in_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    monkeypatch.setenv("DATA", "/data/with space")
    monkeypatch.delenv("NOWHERE", raising=False)
    for text, path in (
        ("${HOME}/runs", "/home/ann/runs"),
        ("$DATA/photos", "/data/with space/photos"),
        ("'${HOME}/a,b=c'", "/home/ann/a,b=c"),
        ("~/runs", "/home/ann/runs"),
        ("costs$9/x", "costs$9/x"),
        ("null", None),
    ):
        assert path_value("run_dir", text) == path
        assert parse([f"run_dir={text}"], (), Config) == ({"run_dir": path}, [])
    with pytest.raises(ConfigError, match=r"run_dir=.*no variable NOWHERE"):
        path_value("run_dir", "${NOWHERE}/runs")
    assert parse(["init_from=${NOWHERE}", "a b"], (), Config)[1] == [
        "init_from=${NOWHERE}: the environment has no variable NOWHERE; write the path out",
        "'a b' is not of the form key=value",
    ]


@pytest.mark.parametrize("value", ["", "${NOWHERE}/x"])
def test_a_path_at_fault_is_not_missing_besides(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    with pytest.raises(ConfigError) as caught:
        compose_train(["data=folder", f"data.root={value}"])
    assert [fault.partition(":")[0].split(" is ")[0] for fault in caught.value.faults] == [
        f"data.root={value}"
    ]
