"""Paths in a sweep, with any characters in them, reach the jobs as they were typed."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
from configs import compose_train
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from hornet_train.config.overrides import path_value
from hornet_train.config.sweep import JobResult, sweep
from hornet_train.config.sweep_paths import as_hydra_reads, as_typed
from hornet_train.errors import ConfigError
from hornet_train.tasks.table import NAMES, find

JOBS: list[list[str]] = []


def job(overrides: list[str]) -> JobResult:
    JOBS.append(overrides)
    return JobResult(0)


def swept(*given: str) -> list[tuple[str | None, str | None]]:
    """(data.root, run_dir) of each job."""
    JOBS.clear()
    sweep(["data=folder", *given], job, find=find, names=NAMES, held_folder=nullcontext)
    configs = [compose_train(one).config for one in JOBS]
    return [(config.data.root, config.run_dir) for config in configs]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("given", "roots"),
    [
        ("a,b", ["a,b"]),  # there is such a folder
        ("nope,a", ["nope", "a"]),
        ("d/a,b,d/c", ["d/a,b", "d/c"]),
        ("x=1 [y]{z},it's (1)", ["x=1 [y]{z}", "it's (1)"]),
        ('say "hi",b\\s,#%$', ['say "hi"', "b\\s", "#%$"]),
        ("'one,two',\"it's, three\"", ["one,two", "it's, three"]),
        ("$PLACE/d/c,${PLACE}/a,b", ["here/d/c", "here/a", "b"]),
        ("1e3,./true,../d-1/c_2.x,true,inf,-1", ["1e3", "./true", "../d-1/c_2.x", "true", "inf", "-1"]),
    ],
)
def test_roots(given: str, roots: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLACE", "here")
    for name in ("a,b", "d/a,b", "d/c"):
        (tmp_path / name).mkdir(parents=True)
    parsed = OverridesParser.create().parse_overrides([as_hydra_reads("data.root", given)])
    (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
    typed = [as_typed(text, frozenset({"data.root"})) for (text,) in jobs]
    assert typed == [f"data.root={root}" for root in roots]
    assert [compose_train(["data=folder", one]).config.data.root for one in typed] == roots  # type: ignore[attr-defined]


def test_they_reach_the_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = swept("data.root=x=1 [y]{z},it's (1)", "hydra.sweep.dir=s=[1], {2} it's")
    assert [root for root, _ in found] == ["x=1 [y]{z}", "it's (1)"]
    assert all(str(run_dir).startswith(f"{tmp_path}/s=[1], {{2}} it's/data.root=") for _, run_dir in found)
    assert [place for _, place in swept("data.root=r", "run_dir=n=1 (x),n=[2]")] == ["n=1 (x)", "n=[2]"]
    places = [place for _, place in swept("data.root=b_1,c/d.x", "hydra.sweep.dir=s")]
    assert places == [f"{tmp_path}/s/data.root=b_1", f"{tmp_path}/s/data.root=c/d.x"]


def test_a_run_is_repeated_by_a_sweep_and_plus_signs_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d/a,b").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text(compose_train(["data=folder", "data.root=d"]).yaml())
    JOBS.clear()
    sweep(["from=run", "seed=1,2"], job, find=find, names=NAMES, held_folder=nullcontext)
    assert [compose_train(one).config.seed for one in JOBS] == [1, 2]
    assert [root for root, _ in swept("+data.root=d/a,b", "seed=1,2")] == ["d/a,b", "d/a,b"]


@pytest.mark.parametrize(
    ("given", "message"), [("seed=1,1", "has a job several times"), ("hydra.sweep.dir=", "is empty")]
)
def test_what_would_be_written_twice_or_anywhere_is_refused(given: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        swept("data.root=r", given)


def test_a_single_run_has_one_path() -> None:
    assert compose_train(["run_dir=one,two (3)"]).config.run_dir == "one,two (3)"


def test_quotes_are_taken_off_in_pairs() -> None:
    given = ["'a b'", '"a b"', "it's", "'tis", "say 'hi'"]
    assert [path_value("run_dir", one) for one in given] == ["a b", "a b", "it's", "'tis", "say 'hi'"]


def test_other_values_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        swept("data.root=r", "log.wandb_name=a=[b", "seed=1,2", "--info", "word")
    assert [fault.split(":")[0] for fault in raised.value.faults] == [
        "'log.wandb_name=a=[b' has a value that cannot be read",
        "unknown flag --info",
        "'word' is not of the form key=value",
    ]
