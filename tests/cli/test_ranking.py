"""The ranking of a sweep."""

from __future__ import annotations

import csv
from pathlib import Path

from hornet_train.cli.ranking import for_console, table, write_ranking
from hornet_train.config.sweep import Ended, JobResult


def ended(folder: Path, *results: JobResult) -> list[Ended]:
    return [
        Ended(["data=digits", f"seed={number}", f"run_dir={folder}/{number}"], result, folder)
        for number, result in enumerate(results)
    ]


def test_the_best_comes_first_and_what_failed_last_with_its_reason(tmp_path: Path) -> None:
    jobs = ended(
        tmp_path,
        JobResult(0, run_dir="r/0", metric="top1", value=50.0, weights="ema", step=3),
        JobResult(2, reason="batch_size=16 is larger than, the data", run_dir="r/1"),
        JobResult(0, run_dir="r/2"),
        JobResult(0, run_dir="r/3", metric="top1", value=float("nan"), weights="ema", step=3),
        JobResult(0, run_dir="r/4", metric="top1", value=61.25, weights="model", step=6),
    )
    file = write_ranking(jobs)
    assert file == tmp_path / "ranking.csv"
    rows = list(csv.DictReader(file.open()))
    assert [(row["rank"], row["job"], row["seed"]) for row in rows] == [
        ("1", "4", "4"), ("2", "0", "0"), ("3", "2", "2"), ("4", "3", "3"), ("", "1", "1"),
    ]  # fmt: skip
    assert (rows[0]["top1"], rows[0]["weights"], rows[0]["run_dir"]) == ("61.2500", "model", "r/4")
    assert rows[-1]["reason"] == "batch_size=16 is larger than, the data"
    heads, *shown = for_console(*table(jobs))
    assert heads == ["rank", "job", "seed", "top1", "weights", "step", "run_dir", "reason"]
    assert shown[0][:4] == ["1", "4", "4", "61.2500"]


def test_of_a_loss_the_least_is_the_best(tmp_path: Path) -> None:
    jobs = ended(
        tmp_path,
        *(JobResult(0, metric="loss", value=value, direction="min") for value in (0.5, 0.25)),
    )
    assert [row[1] for row in table(jobs)[1]] == ["1", "0"]
