"""The short form of long tests: only some of their cases, drawn again for each commit.

A pytest plugin (tests/conftest.py registers it). Without `--short` everything runs, with the seed 0. With it
a test asks the fixture `amount` how many cases to try, draws them from the fixture `test_seed`, and a
parametrised test marked `draw(count)` runs `count` of its parameters. Of the tests with a mark in `SHARES`
only so many run.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

SEED_VARIABLE = "HORNET_TEST_SEED"
SHARES = {"faults": 1 / 3, "long": 1 / 4}  # of all that have the mark, after `draw`


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("hornet-train")
    group.addoption("--short", action="store_true", help="long tests try only some of their cases")
    group.addoption(
        "--test-seed",
        type=int,
        help=f"the seed that draws them (default: ${SEED_VARIABLE}; with --short the git commit; else 0)",
    )


def pytest_configure(config: pytest.Config) -> None:
    # pytest-xdist passes the options to its workers after this
    if config.option.test_seed is None:
        given = os.environ.get(SEED_VARIABLE)
        if given is not None and not given.isdecimal():
            raise pytest.UsageError(f"{SEED_VARIABLE}={given} is not a whole number")
        config.option.test_seed = int(given) if given else seed_of_commit() if config.option.short else 0


def seed_of_commit() -> int:
    """A number made from the commit hash; 0 outside of a git repository."""
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=7", "HEAD"]
    try:
        return int(subprocess.run(asked, capture_output=True, text=True, check=True).stdout, 16)
    except (OSError, subprocess.CalledProcessError):
        return 0


def _how(config: pytest.Config) -> str:
    return f"short form, cases drawn by --test-seed={config.option.test_seed}"


def pytest_report_header(config: pytest.Config) -> str | None:
    return _how(config) if config.option.short else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.option.short and (terminalreporter.stats.get("failed") or terminalreporter.stats.get("error")):
        terminalreporter.write_line(
            f"{_how(config)}; the same cases again: --short --test-seed={config.option.test_seed} or "
            f"{SEED_VARIABLE}={config.option.test_seed}"
        )


@pytest.hookimpl(trylast=True)  # draw from the tests that -m and -k select
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.option.short:
        return
    cases: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("draw"):
            cases[item.nodeid.partition("[")[0]].append(item)
    left_out: list[pytest.Item] = []
    for name, of_test in cases.items():
        mark = of_test[0].get_closest_marker("draw")
        assert mark is not None
        count = min(mark.args[0], len(of_test))
        chosen = random.Random(f"{config.option.test_seed} {name}").sample(of_test, count)
        left_out += [item for item in of_test if item not in chosen]
    for mark_name, share in SHARES.items():
        of_mark = [item for item in items if item.get_closest_marker(mark_name) and item not in left_out]
        count = -(-round(len(of_mark) * share * 100) // 100)
        chosen = random.Random(f"{config.option.test_seed} {mark_name}").sample(of_mark, count)
        left_out += [item for item in of_mark if item not in chosen]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)


@pytest.fixture(scope="session")
def test_seed(pytestconfig: pytest.Config) -> int:
    """The seed for the random cases of a test; 0 in the full form."""
    return int(pytestconfig.option.test_seed)


@pytest.fixture(scope="session")
def amount(pytestconfig: pytest.Config) -> Callable[[int, int], int]:
    """`amount(full, short)`: how many cases to try in this form."""
    return lambda full, short: short if pytestconfig.option.short else full
