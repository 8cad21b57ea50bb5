"""What is known of a checkpoint: from the folder, from the header of a file, or from the weights alone."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import timm
import torch
from helpers import TINY

import hornet_train
from hornet_train.errors import CheckpointError
from hornet_train.run.known import known_of


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("known") / "run"
    hornet_train.train([*TINY, "epochs=1", f"run_dir={folder}"], quiet=True)
    return folder


def test_a_run_a_step_a_pointer_and_a_file_of_it_know_its_config(run_folder: Path) -> None:
    step = run_folder / "checkpoints/step_00000003"
    for place in (run_folder, step, run_folder / "checkpoints/best", step / "ema.safetensors"):
        known = known_of(str(place))
        assert known is not None
        assert known["model"]["name"] == "hornet_pico_gf"
        assert known["data"]["num_classes"] == 4


def test_weights_alone_are_known_by_their_shapes(tmp_path: Path) -> None:
    model = timm.create_model("hornet_tiny_7x7", num_classes=5)
    torch.save({"model": model.state_dict()}, tmp_path / "official.pth")
    known = known_of(str(tmp_path / "official.pth"))
    assert known is not None
    assert known["model"] == {"name": "hornet_tiny_7x7"}
    grey = timm.create_model("hornet_pico_7x7", num_classes=5, in_chans=1)
    torch.save(grey.state_dict(), tmp_path / "grey.pth")
    known = known_of(str(tmp_path / "grey.pth"))
    assert known is not None
    assert known["model"] == {"name": "hornet_pico_7x7", "in_chans": 1}
    other = {name: value for name, value in model.state_dict().items() if "gamma2" not in name}
    torch.save(other, tmp_path / "other.pth")
    known = known_of(str(tmp_path / "other.pth"))
    assert known is not None
    assert "nearest to hornet_tiny_7x7" in known["unlike"]
    with pytest.raises(CheckpointError):
        known_of(str(tmp_path / "none.pth"))


@pytest.mark.parametrize(
    ("args", "model", "size"),
    [
        ({"img_size": 96, "in_chans": 1}, {"in_chans": 1}, [96, 96]),
        ({"input_size": [1, 64, 96], "img_size": None, "in_chans": None}, {"in_chans": 1}, [64, 96]),
        ({"img_size": None, "in_chans": None}, {}, None),
        ({"img_size": "96", "input_size": [3, 64]}, {}, None),
    ],
)
def test_timms_own_trainings_say_size_and_channels(
    tmp_path: Path, args: dict[str, object], model: dict[str, int], size: list[int] | None
) -> None:
    weights = timm.create_model("resnet10t", num_classes=2, in_chans=model.get("in_chans", 3)).state_dict()
    content = {"arch": "resnet10t", "state_dict": weights, "args": argparse.Namespace(**args)}
    torch.save(content, tmp_path / "last.pth.tar")
    known = known_of(str(tmp_path / "last.pth.tar"))
    assert known is not None
    assert known["model"] == {"name": "resnet10t", **model}
    assert known["data"].get("image_size") == size
