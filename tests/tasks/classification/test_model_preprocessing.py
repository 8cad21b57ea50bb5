"""timm's models get the preprocessing that timm knows them to want, unless somebody says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import yaml
from prepare_trees import photographs

import hornet_train

MODEL = ["model=timm", "model.name=test_vit"]
QUICK = [
    *("data=folder", "data.image_size=160", "data.workers=0", "batch_size=5", "epochs=1it"),
    *("schedule.warmup=0it", "augment=none", "dist.threads=1"),
]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs(tmp_path_factory.mktemp("base") / "photos")


def data_of(folder: Path) -> dict[str, object]:
    return yaml.safe_load((folder / "config.yaml").read_text())["data"]


def test_a_training_takes_it_and_its_evaluations_too(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = timm.get_pretrained_cfg("test_vit")
    assert known.mean == (0.5, 0.5, 0.5)
    given = [*MODEL, *QUICK, f"data.root={photos}"]
    hornet_train.train([*given, f"run_dir={tmp_path}/run"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "data.mean=[0.5,0.5,0.5], data.std=[0.5,0.5,0.5], data.crop_pct=0.95: as test_vit has it" in shown
    kept = data_of(tmp_path / "run")
    assert (kept["mean"], kept["std"], kept["crop_pct"]) == ([0.5] * 3, [0.5] * 3, known.crop_pct)
    hornet_train.train([*given, f"run_dir={tmp_path}/run"])  # complete, and no other config
    hornet_train.train([*given, "data.mean=[0.4,0.5,0.6]", f"run_dir={tmp_path}/own"], quiet=True)
    assert data_of(tmp_path / "own")["mean"] == [0.4, 0.5, 0.6]
    assert data_of(tmp_path / "own")["std"] == [0.5] * 3

    # what the checkpoint was trained with goes before what timm knows
    loaded = hornet_train.load(tmp_path / "own")
    pixels = torch.randint(0, 256, (3, 160, 160), dtype=torch.uint8)
    mean = torch.tensor([0.4, 0.5, 0.6])[:, None, None]
    crop = hornet_train.load(tmp_path / "own", ["data.crop_pct=1"]).predict(pixels)
    with torch.no_grad():
        logits = loaded.model(((pixels / 255 - mean) / 0.5)[None])
    best = logits.softmax(1)[0].max().item()
    assert crop["probabilities"][0] == pytest.approx(best, rel=1e-4)


def test_weights_of_another_tool_are_evaluated_with_it(photos: Path, tmp_path: Path) -> None:
    file = tmp_path / "vit.pth"
    torch.manual_seed(0)
    torch.save(timm.create_model("test_vit", num_classes=3).state_dict(), file)
    given = [f"checkpoint={file}", *MODEL, "data=folder", "data.image_size=160", f"data.root={photos}"]
    given += ["data.workers=0"]
    own = hornet_train.evaluate([*given, f"out={tmp_path}/own.json"], quiet=True)
    said = ["data.mean=[.5,.5,.5]", "data.std=[.5,.5,.5]", "data.crop_pct=.95"]
    same = hornet_train.evaluate([*given, *said, f"out={tmp_path}/said.json"], quiet=True)
    usual = ["data.mean=[.485,.456,.406]", "data.std=[.229,.224,.225]", "data.crop_pct=.875"]
    other = hornet_train.evaluate([*given, *usual, f"out={tmp_path}/other.json"], quiet=True)
    assert own.values["loss"] == same.values["loss"]
    assert own.values["loss"] != other.values["loss"]


@pytest.mark.parametrize(
    ("model", "data", "mean", "crop"),
    [
        (MODEL, ["data=imagenet", "data.root=x"], 0.5, 0.95),
        (MODEL, ["data=digits"], 0.305, 1.0),  # which has statistics of its own
        (["model=hornet_l_gf_384"], ["data=imagenet", "data.root=x"], 0.485, 0.875),
    ],
)
def test_hornets_and_data_with_their_own_are_left_alone(
    model: list[str], data: list[str], mean: float, crop: float, command: Callable[..., tuple[int, str, str]]
) -> None:
    code, out, err = command("hornet-train", *model, *data, "--cfg", "job")
    assert code == 0, err
    found = yaml.safe_load(out)["data"]
    assert (found["mean"][0], found["crop_pct"]) == (mean, crop)
