"""Runs the slowest test files first, so that no worker is left with one of them at the end.

A pytest plugin for `-n 2 --dist loadfile --no-loadscope-reorder`, with which each worker takes the next file.
"""

from __future__ import annotations

import pytest

# Parts of paths, the slowest first; all other files come after them, in the usual order.
LONG = (
    "tests/faults/test_killed",
    "tests/faults/test_storage",
    "tests/faults/test_slurm",
    "tests/faults/test_sharded",
    "tests/faults/test_lost_ranks",
    "tests/faults/test_reproducible",
    "tests/faults/test_hosts",
    "tests/faults/test_preemption",
    "tests/e2e/test_train",
    "tests/e2e/test_readme",
    "tests/e2e/test_bench",
    "tests/e2e/",
    "tests/models/",
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {part: place for place, part in enumerate(LONG)}

    def place(item: pytest.Item) -> int:
        path = item.path.as_posix()
        return next((place for part, place in places.items() if part in path), len(places))

    items.sort(key=place)  # stable
