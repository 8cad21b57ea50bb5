"""Photos as a phone's owner has them: one folder a class, nothing held out, some stored turned."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import yaml
from helpers import events
from PIL import Image, ImageOps
from skimage import data

import hornet_train
from hornet_train.images.orientation import exif_of

Command = Callable[..., tuple[int, str, str]]
TINY_MODEL = ("model=hornet_pico_7x7", "model.args.dim=4", "model.args.depths=[1,1,1,1]")


def phone_photos(root: Path) -> Path:
    """Ten crops of each of three pictures; half of them stored turned, with the orientation that says so."""
    for name in ("astronaut", "cat", "coffee"):
        picture = Image.fromarray(getattr(data, name)())
        (root / name).mkdir(parents=True)
        for i in range(10):
            crop = picture.crop((13 * i, 7 * i, 13 * i + 120, 7 * i + 90))
            held = crop.transpose(Image.Transpose.ROTATE_90) if i % 2 else crop
            held.save(root / name / f"{i}.jpg", exif=exif_of(6 if i % 2 else 1))
    return root


def test_they_are_split_turned_and_trained_on_in_steps_that_suit_them(
    tmp_path: Path, command: Command
) -> None:
    root, folder = phone_photos(tmp_path / "photos"), tmp_path / "run"
    training = (*TINY_MODEL, "data=folder", f"data.root={root}", "data.image_size=32", "augment=none",
                "data.workers=0", "dist.threads=1", "epochs=3", "schedule.warmup=0ep", "eval.every=3ep",
                "data.exif=apply", "data.val_share=0.3", f"run_dir={folder}")  # fmt: skip
    code, out, err = command("hornet-train", *training)
    assert code == 0, err
    assert "batch_size=8 optim.lr=0.00018: for 21 training images, in place of 4096" in out
    assert "9 images held out" in out
    stored = yaml.safe_load((folder / "config.yaml").read_text())
    assert (stored["batch_size"], stored["optim"]["lr"]) == (8, 1.8e-4)
    assert (stored["data"]["exif"], stored["data"]["val_share"]) == ("apply", 0.3)
    code, out, err = command("hornet-train", *training)
    assert code == 0, err
    assert "is complete at step 6" in out

    code, _, err = command("hornet-eval", f"checkpoint={folder}", "dist.threads=1", "weights=model")
    assert code == 0, err
    found, (last,) = (
        json.loads((folder / "eval.json").read_text()),
        [event for event in events(folder, "eval") if event["weights"] == "model"],
    )
    assert (found["count"], found["top1"]) == (last["count"], last["top1"])
    assert abs(found["loss"] - last["loss"]) < 1e-5
    code, _, err = command("hornet-eval", f"checkpoint={folder}", "dist.threads=1", "weights=model",
                           "data.exif=ignore", f"out={tmp_path}/other.json")  # fmt: skip
    assert code == 0, err
    assert abs(json.loads((tmp_path / "other.json").read_text())["loss"] - found["loss"]) > 1e-4

    model = hornet_train.load(folder)
    turned = root / "cat/1.jpg"
    with Image.open(turned) as image:
        upright = ImageOps.exif_transpose(image)
        upright.save(tmp_path / "upright.png")
    assert model.predict(turned) == model.predict(tmp_path / "upright.png")
