"""Which of a checkpoint's weights are taken where nothing says it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import TINY

from hornet_train.run.open_weights import find_weights


@pytest.mark.parametrize(("decay", "name"), [(0.9999, "model"), (0.1, "ema")])
def test_an_average_that_has_hardly_moved_is_not_taken_unasked(
    tmp_path: Path, command: Callable[..., tuple[int, str, str]], decay: float, name: str
) -> None:
    """Of a short run it is the random weights with which it began."""
    short = ["epochs=3it", "checkpoint.every=1it", "checkpoint.keep=9", f"ema.decay={decay}"]
    code, _, err = command("hornet-train", *TINY, *short, f"run_dir={tmp_path}")
    assert code == 0, err
    place = tmp_path / "checkpoints/step_00000001"  # which no evaluation was made of
    found = find_weights(place, None)
    assert found.name == name
    assert len(found.notes) == (name == "model")
    if name == "model":
        assert "still 100% those that the run began with (ema.decay=0.9999, 1 step)" in found.notes[0]
    asked = find_weights(place, "ema")
    assert (asked.name, list(asked.notes)) == ("ema", [])
