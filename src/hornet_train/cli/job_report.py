"""What a job of a sweep reports to the process that started it, in a file that this one names."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hornet_train.untrusted import MAX_JSON, parse_json, read_within

_VARIABLE = "HORNET_JOB_REPORT"
_FILE = os.environ.pop(_VARIABLE, None)  # of this process alone, not of those that it starts


def report(facts: Mapping[str, Any], rank: str) -> None:
    """Leave the facts of this process for the one that started it; nothing where it is no job of a sweep."""
    if _FILE is not None and rank == "0":
        Path(_FILE).write_text(json.dumps(facts), encoding="utf-8")


class Report:
    """The file for one job.

    Attributes:
        variables: for the environment of its process.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.variables = {_VARIABLE: str(file)}

    def read(self) -> dict[str, Any]:
        """The facts; none where the process was killed."""
        text = read_within(self._file, MAX_JSON)
        facts: dict[str, Any] = parse_json(text) if text else {}
        return facts


@contextmanager
def reported() -> Iterator[Report]:
    """A `Report`, as long as it is needed."""
    handle, name = tempfile.mkstemp(prefix="hornet-job-", suffix=".json")
    os.close(handle)
    try:
        yield Report(Path(name))
    finally:
        Path(name).unlink(missing_ok=True)
