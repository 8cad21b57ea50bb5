"""Real photographs in class folders, from the first step to an evaluation."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import events, run
from PIL import Image
from skimage import data

Command = Callable[..., tuple[int, str, str]]


def photographs(root: Path) -> None:
    """Crops of three of scikit-image's pictures as JPEG, PNG and WebP."""
    for name, suffix in (("astronaut", "jpg"), ("coffee", "png"), ("chelsea", "webp")):
        image = Image.fromarray(getattr(data, name)())
        width, height = image.size
        for i in range(20):
            split = "train" if i < 15 else "val"
            folder = root / split / name
            folder.mkdir(parents=True, exist_ok=True)
            left, top = (i * 37) % (width - 200), (i * 53) % (height - 200)
            image.crop((left, top, left + 200, top + 180)).save(folder / f"{i:02d}.{suffix}")


@pytest.mark.long
def test_a_model_learns_photographs_from_folders(tmp_path: Path, command: Command) -> None:
    photographs(tmp_path / "photos")
    done = run(
        "hornet-train",
        "model=hornet_pico_7x7",
        "data=folder",
        f"data.root={tmp_path}/photos",
        "data.workers=2",
        "data.image_size=48",
        "augment=none",  # with more, 45 images teach too little in so few steps to be better than chance
        "batch_size=15",
        "epochs=20",
        "schedule.warmup=1ep",
        "optim.lr=3e-3",
        "ema.decay=0.9",
        "eval.every=4ep",
        f"run_dir={tmp_path}/run",
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert max(event["top1"] for event in events(tmp_path / "run", "eval")) >= 80
    code, _, err = command("hornet-eval", f"checkpoint={tmp_path}/run")
    assert code == 0, err
    assert json.loads((tmp_path / "run/eval.json").read_text())["count"] == 15
