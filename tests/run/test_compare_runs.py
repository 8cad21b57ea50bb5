"""What is said of a repetition that runs on something else."""

from __future__ import annotations

from typing import Any

from hornet_train.run.compare_runs import MOST_PACKAGES, differences
from hornet_train.track.environment import environment

NOW = environment()


def message(**then: Any) -> list[str]:
    return list(differences({**NOW, **then}, NOW))


def test_the_same_is_nothing() -> None:
    assert message(host="another", started="earlier", command="other", cpus=64) == []


def test_each_difference_is_a_line() -> None:
    assert message(python="3.9.1") == [f"python 3.9.1 -> {NOW['python']}"]
    assert message(world_size=8) == ["world_size 8 -> 1"]
    assert message(threads=77) == [f"threads 77 -> {NOW['threads']}"]
    assert message(math={**NOW["math"], "capability": "AVX9"}) == [
        f"capability AVX9 -> {NOW['math']['capability']}"
    ]
    assert message(variables={**NOW["variables"], "MKL_CBWR": "AVX2"}) == ["MKL_CBWR AVX2 -> none"]
    assert message(gpus=["H100"]) == []  # on the CPU
    assert message(gpus=["H100"], device="cuda") == ["device cuda -> cpu", "gpus H100 -> none"]
    assert list(differences({"packages": NOW["packages"]}, NOW)) == []  # of an older program


def test_packages_that_compute_come_first_and_not_all_are_named() -> None:
    older = dict.fromkeys(NOW["packages"], "0.0")
    lines = message(packages={**older, "gone": "1.0"})
    assert lines[1] == f"torch 0.0 -> {NOW['packages']['torch']}"
    assert len(lines) == MOST_PACKAGES + 1
    assert lines[-1].startswith(f"{len(older) + 1 - MOST_PACKAGES} more packages")
    assert message(packages={**NOW["packages"], "gone": "1.0"}) == ["gone 1.0 -> not installed"]


def test_code() -> None:
    clean = {"commit": "a" * 40, "dirty": False}
    now = {**NOW, "git": clean}

    def lines(then: dict[str, Any] | None) -> list[str]:
        return list(differences({**NOW, "git": then}, now))

    assert lines(clean) == []
    assert lines({**clean, "commit": "b" * 40}) == [f"commit {'b' * 40} -> {'a' * 40}"]
    assert lines(None) == [f"commit not known -> {'a' * 40}"]
    diff = {"file": "uncommitted.diff", "bytes": 9, "sha256": "c" * 64}
    assert lines({**clean, "dirty": True, "diff": diff}) == [
        f"uncommitted changes {'c' * 12} (uncommitted.diff) -> none"
    ]
    assert lines({**clean, "dirty": True, "diff": None}) == []  # untracked files alone
    assert lines({**clean, "dirty": True}) == ["uncommitted changes then, of which nothing was kept"]
