"""A trained model on our pixels and on timm's, which are Pillow's."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from helpers import run
from PIL import Image
from safetensors.torch import load_file
from timm.data import create_transform

import hornet_train.models  # noqa: F401 - registers
from hornet_train.bench.pictures import cut_picture, encoded, source_pictures
from hornet_train.images.decode import decode
from hornet_train.images.normalize import Normalize
from hornet_train.tasks.classification.transforms import EvalTransform

SIZE = 64
COUNT = 1000


def photos(root: Path, count: int) -> list[tuple[bytes, int]]:
    """The held-out JPEGs: parts of nine pictures, a class each; others to train on are written below root."""
    rng = np.random.default_rng(0)
    sources = source_pictures()
    held_out = []
    for i in range(count + 360):
        label = i % len(sources)
        file = encoded(cut_picture(sources[label], rng).resize((250, 187)))
        if i < count:
            held_out.append((file, label))
            continue
        path = root / "train" / f"class_{label}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file)
    return held_out


@pytest.mark.accuracy
def test_a_trained_model_is_as_good_on_our_pixels_as_on_pillows(tmp_path: Path) -> None:
    """At most one image in a thousand is right on one of the two and not on the other."""
    held_out = photos(tmp_path / "photos", COUNT)
    arguments = (
        f"model=hornet_pico_7x7 data=folder data.root={tmp_path}/photos data.val=false "
        f"data.image_size={SIZE} data.workers=1 batch_size=36 epochs=3 schedule.warmup=5it optim.lr=2e-3 "
        f"ema=none augment=none run_dir={tmp_path}/run"
    )
    done = run("hornet-train", *arguments.split(), timeout=600)
    assert done.returncode == 0, done.stderr
    last = (tmp_path / "run/checkpoints/last").read_text().strip()
    model = timm.create_model("hornet_pico_7x7", num_classes=9).eval()
    model.load_state_dict(load_file(tmp_path / "run/checkpoints" / last / "model.safetensors"))
    ours = EvalTransform(SIZE)
    pillows = create_transform((3, SIZE, SIZE), interpolation="bicubic", crop_pct=0.875, use_prefetcher=True)
    normalize = Normalize()
    right: dict[str, list[bool]] = {"ours": [], "pillow": []}
    for k in range(0, COUNT, 50):
        part = held_out[k : k + 50]
        labels = torch.tensor([label for _, label in part])
        batches = {
            "ours": torch.stack([ours(decode(file)) for file, _ in part]),
            "pillow": torch.stack(
                [torch.as_tensor(pillows(Image.open(io.BytesIO(file)).convert("RGB"))) for file, _ in part]
            ),
        }
        for name, batch in batches.items():
            with torch.inference_mode():
                right[name] += (model(normalize(batch)).argmax(1) == labels).tolist()
    assert np.mean(right["ours"]) > 0.5, "nothing was learnt, so nothing is compared"
    assert np.mean(right["ours"]) < 1, "too easy to tell pipelines apart"
    differ = sum(a != b for a, b in zip(right["ours"], right["pillow"], strict=True))
    assert differ <= COUNT // 1000, (differ, np.mean(right["ours"]), np.mean(right["pillow"]))
