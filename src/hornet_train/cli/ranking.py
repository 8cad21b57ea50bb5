"""The jobs of a sweep, the best first: as a table, and as ranking.csv in its folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from hornet_train.config.overrides import texts
from hornet_train.config.sweep import Ended
from hornet_train.errors import DataError
from hornet_train.track.durable_files import write_text

FILE = "ranking.csv"
_MOST = 100  # characters of a reason in the table


def ranked(ended: Sequence[Ended]) -> list[tuple[int, Ended]]:
    """(number of the job, job): by the headline metric, then those without one, then those that failed."""

    def place(one: tuple[int, Ended]) -> tuple[int, float]:
        result = one[1].result
        if result.code:
            return 2, one[0]
        if result.value is None or result.value != result.value:
            return 1, one[0]
        return 0, -result.value if result.direction == "max" else result.value

    return sorted(enumerate(ended), key=place)


def table(ended: Sequence[Ended]) -> tuple[list[str], list[list[str]]]:
    """The columns and the rows of the ranking.

    Its columns: rank, job, the keys whose values differ, the headline metric with its weights and step,
    run_dir, exit_code, reason. A job that failed has no rank.
    """
    given = [texts(one.overrides) for one in ended]
    keys = [key for key in dict.fromkeys(key for one in given for key in one) if key != "run_dir"]
    varied = [key for key in keys if len({one.get(key) for one in given}) > 1]
    metric = next((one.result.metric for one in ended if one.result.metric), None)
    columns = [
        "rank",
        "job",
        *varied,
        metric or "metric",
        "weights",
        "step",
        "run_dir",
        "exit_code",
        "reason",
    ]
    rows = []
    for rank, (number, one) in enumerate(ranked(ended), 1):
        result = one.result
        found = [_text(part) for part in (result.value, result.weights, result.step)]
        values = [given[number].get(key, "") for key in varied]
        place = "" if result.code else str(rank)
        rows.append([place, str(number), *values, *found, result.run_dir, str(result.code), result.reason])
    return columns, rows


def write_ranking(ended: Sequence[Ended]) -> Path:
    """Write ranking.csv into the folder of the sweep; returns its path.

    Raises:
        DataError: the disk refuses.
    """
    columns, rows = table(ended)
    file = ended[0].folder / FILE
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, text.getvalue())
    except OSError as error:
        raise DataError(f"{file} cannot be written ({error.strerror})") from error
    return file


def for_console(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[list[str]]:
    """The rows with short reasons, without those columns that are empty, the heads first."""
    short = [[*row[:-1], row[-1] if len(row[-1]) <= _MOST else f"{row[-1][:_MOST]}..."] for row in rows]
    kept = [i for i, column in enumerate(columns) if any(row[i] for row in short) and column != "exit_code"]
    return [[row[i] for i in kept] for row in (columns, *short)]


def _text(value: float | str | None) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)
