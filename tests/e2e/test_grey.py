"""Grey models and images that are not square, from a training to its evaluation and its predictions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from configs import compose_train
from helpers import events
from PIL import Image
from prepare_trees import photographs

import hornet_train
from hornet_train.errors import ConfigError

QUICK = [
    *("model=hornet_pico_7x7", "data=folder", "data.workers=0", "batch_size=5", "schedule.warmup=0it"),
    *("optim.lr=1e-3", "augment=none", "dist.threads=1"),
]
SHAPE = ["model.in_chans=1", "data.image_size=[32,48]"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("base") / "photos")


@pytest.fixture(scope="module")
def grey(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grey") / "run"
    hornet_train.train([*QUICK, *SHAPE, f"data.root={photos}", "epochs=2", f"run_dir={folder}"], quiet=True)
    return folder


def test_an_evaluation_finds_what_the_training_found(grey: Path, tmp_path: Path) -> None:
    config = yaml.safe_load((grey / "config.yaml").read_text())
    assert (config["model"]["in_chans"], config["data"]["image_size"]) == (1, [32, 48])
    for weights in ("model", "ema"):
        last = [event for event in events(grey, "eval") if event["weights"] == weights][-1]
        given = [
            f"checkpoint={grey}/checkpoints/step_00000006",
            f"weights={weights}",
            f"out={tmp_path}/e.json",
        ]
        found = hornet_train.evaluate([*given, "fuse=false"], quiet=True).values
        assert (found["top1"], found["count"]) == (last["top1"], 15)
        assert found["loss"] == pytest.approx(last["loss"], rel=1e-6)
        assert hornet_train.evaluate(given, quiet=True).values["loss"] == pytest.approx(
            last["loss"], rel=1e-4
        )
    other = hornet_train.evaluate([*given, "data.image_size=[48,40]"], quiet=True).values
    assert (other["image_size"], other["count"]) == ((48, 40), 15)


def test_predictions_are_of_grey_pixels(grey: Path, photos: Path, tmp_path: Path) -> None:
    model = hornet_train.load(grey, ["data.mean=0.5", "data.std=0.5", "data.image_size=[24,32]"])
    with Image.open(photos / "val/coffee/01.png") as picture:
        small = picture.convert("L").resize((32, 24))
        small.save(tmp_path / "grey.png")
    pixels = torch.frombuffer(bytearray(small.tobytes()), dtype=torch.uint8).view(1, 24, 32)
    with torch.no_grad():
        best = model.model(((pixels / 255 - 0.5) / 0.5)[None]).softmax(1)[0].max().item()
    exact = hornet_train.load(
        grey, ["data.mean=0.5", "data.std=0.5", "data.image_size=[24,32]", "data.crop_pct=1"]
    )
    for given in (pixels, pixels.expand(3, -1, -1), tmp_path / "grey.png"):
        assert exact.predict(given)["probabilities"][0] == pytest.approx(best, rel=1e-4)
    with pytest.raises(ValueError, match=r"uint8 \(3, H, W\), or \(1, H, W\) for grey"):
        model.predict(torch.zeros(2, 8, 8, dtype=torch.uint8))


def test_it_goes_on_and_gives_its_weights(
    grey: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hornet_train.train([f"run_dir={grey}"])
    assert "this run is complete at step 6" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(ConfigError, match=r"model\.in_chans: 1 -> 3"):
        hornet_train.train([*QUICK, SHAPE[1], f"data.root={photos}", "epochs=2", f"run_dir={grey}"])
    again = compose_train([f"from={grey}", f"run_dir={tmp_path}/again"])
    assert (again.config.data.image_size, again.config.model.in_chans) == ((32, 48), 1)
    start = [*QUICK, f"data.root={photos}", "data.image_size=[48,32]", "epochs=1it", f"init_from={grey}"]
    hornet_train.train([*start, f"run_dir={tmp_path}/rgb"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "repeated the first convolution's weights of one channel for 3, times 1/3" in shown
    assert "GMACs at 48x32 " in shown
    assert "they are stretched to 48x32" in shown


def test_images_of_another_shape_grow_and_are_drawn(
    photos: Path, tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    given = [
        *QUICK,
        *SHAPE,
        f"data.root={photos}",
        "augment.start_size=16",
        "augment.size_step=8",
        "epochs=3",
    ]
    code, out, err = command("hornet-data", "show", *given, "--images", "4", f"--out={tmp_path}/show.png")
    assert code == 0, err
    assert "4 training images" in out
    with Image.open(tmp_path / "show.png") as sheet:
        assert max(high - low for low, high in sheet.convert("RGB").getextrema()) > 100
    code, _, err = command("hornet-train", *given[:-3], "augment.start_size=40", "epochs=1it")
    assert code == 2
    assert "augment.start_size=40 is above data.image_size=[32,48]" in err
