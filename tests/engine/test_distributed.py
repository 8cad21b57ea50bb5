"""What a launcher puts into the environment, whole or in part."""

from __future__ import annotations

import pytest

from hornet_train.engine.distributed import launched_world_size
from hornet_train.errors import ConfigError

WHOLE = {
    "WORLD_SIZE": "2",
    "RANK": "1",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "localhost",
    "MASTER_PORT": "29500",
}


def set_to(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name in WHOLE:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_a_launcher_says_how_many_processes_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    set_to(monkeypatch, **WHOLE)
    assert launched_world_size() == 2
    set_to(monkeypatch)
    assert launched_world_size() == 1
    set_to(monkeypatch, RANK="3", LOCAL_RANK="3", MASTER_PORT="stale")  # left by an earlier one
    assert launched_world_size() == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"RANK": None, "MASTER_ADDR": None}, "WORLD_SIZE=2 without RANK, MASTER_ADDR, in the environment"),
        ({"LOCAL_RANK": None}, "WORLD_SIZE=2 without LOCAL_RANK"),
        ({"RANK": "2"}, "RANK=2 is not one of WORLD_SIZE=2 processes"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE=two is not a number"),
        ({"RANK": "-1"}, "RANK=-1 is not a number"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT=http is not a number"),
    ],
)
def test_a_part_of_its_variables_is_refused_by_name(
    change: dict[str, str | None], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {**WHOLE, **change}
    set_to(monkeypatch, **{name: value for name, value in given.items() if value is not None})
    with pytest.raises(ConfigError, match=message) as raised:
        launched_world_size()
    assert raised.value.of_one_rank  # printed whatever RANK says
