"""Flags that name a file to be written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hornet-data", "show", "--out", "x.xyz"], "--out=x.xyz cannot be written: it is a .png file"),
        (["hornet-data", "show", "--out", "no/x.png"], "there is no folder"),
        (
            ["hornet-data", "check", ".", "--csv", "x.json"],
            "--csv=x.json cannot be written: it is a .csv",
        ),
        (["hornet-data", "bench", "--json", "x.txt"], "--json=x.txt cannot be written: it is a .json file"),
        (["hornet-bench", "step", "out=x.png"], "out=x.png cannot be written: it is a .json file"),
        (["hornet-bench", "step", "plot=x.pdf"], "plot=x.pdf cannot be written: it is a .png file"),
    ],
)
def test_a_name_of_another_kind_is_refused(
    command: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = command(*arguments)
    assert code == 2
    assert message in err
    assert not list(tmp_path.iterdir())
