"""hornet-bench on the smallest models, and its wrong ways."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

Command = Callable[..., tuple[int, str, str]]
SMALL = ("image_size=32", "batch_size=2", "rounds=3", "compile=false", "precision=fp32", "dist=cpu")


def test_step_tells_ratios_to_the_first_peer(tmp_path: Path, command: Command) -> None:
    file, plot = tmp_path / "step.json", tmp_path / "step.png"
    models = ("models=hornet_pico_gf", "peers=test_convnext,test_vit", "plain=true")
    code, out, err = command("hornet-bench", "step", *SMALL, *models, f"out={file}", f"plot={plot}")
    assert (code, err) == (0, "")
    told = json.loads(file.read_text())
    assert told["image_size"] == 32
    assert told["environment"]["cpus"] >= 1
    names = ["test_convnext", "test_vit", "hornet_pico_gf", "hornet_pico_gf, plain layers"]
    found = {(one["mode"], one["model"]): one for one in told["measured"]}
    assert list(found) == [(mode, name) for mode in ("train", "inference") for name in names]
    for one in found.values():
        assert len(one["seconds"]) == 3
        assert set(one["tried"]) == {"contiguous, eager", "channels-last, eager"}
        assert one["setting"] in one["tried"]
        assert 0 < one["ratio_least"] <= one["ratio"] <= one["ratio_greatest"]
        assert one["model"] in out
    assert found["train", "test_convnext"]["ratio"] == 1
    assert (
        found["train", "hornet_pico_gf"]["images_per_second"]
        < (found["inference", "hornet_pico_gf"]["images_per_second"])
    )
    with Image.open(plot) as picture:
        assert picture.width > 500


def test_compiled_is_tried(tmp_path: Path, command: Command) -> None:
    file = tmp_path / "step.json"
    models = ("models=test_convnext", "peers=test_convnext", "modes=inference", "compile=true", "rounds=1")
    code, _, err = command("hornet-bench", "step", *SMALL[:2], *models, "dist=cpu", f"out={file}")
    assert (code, err) == (0, "")
    (one,) = json.loads(file.read_text())["measured"]
    assert len(one["tried"]) == 4
    assert any("compiled" in setting for setting in one["tried"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("stpe",), "did you mean 'step'?"),
        (("step", "peers=convnext_tinny"), "did you mean 'convnext_tiny"),
        (("step", "peers="), "peers"),
        (("step", "modes=eval"), "modes"),
        (("step", "out=/nowhere/x.json"), "out=/nowhere/x.json cannot be written"),
        (("step", "models=hornet_iso_small_7x7", "plain=true"), "isotropic"),
        (("step", *SMALL, "models=hornet_pico_gf", "peers=test_vit", "image_size=8"), "of 8 pixels"),
    ],
)
def test_mistakes_are_told(arguments: tuple[str, ...], told: str, command: Command) -> None:
    code, _, err = command("hornet-bench", *arguments)
    assert code == 2
    assert told in err
