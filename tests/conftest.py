"""Settings of the whole suite, and the commands in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator

import pytest

# One thread a process: results do not depend on the machine's load, and two processes do not fight.
os.environ["OMP_NUM_THREADS"] = "1"

pytest_plugins = ["golden", "order", "short_form", "time_limit"]  # tests/support


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Take back the environment variables that a command sets in this process for its libraries: they are not
    those of the processes that later tests start."""
    before = dict(os.environ)
    result = yield
    os.environ.clear()
    os.environ.update(before)
    return result


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs one of our commands in this process: (exit code, stdout, stderr)."""
    from hornet_train.cli import bench, data, evaluate, export, info, predict, train

    entry = {
        "hornet-train": train.main,
        "hornet-eval": evaluate.main,
        "hornet-info": info.main,
        "hornet-data": data.main,
        "hornet-bench": bench.main,
        "hornet-predict": predict.main,
        "hornet-export": export.main,
    }

    def call(name: str, *arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            entry[name](list(arguments))
        out, err = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, out, err

    return call
