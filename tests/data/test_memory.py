"""A worker's memory over many epochs."""

from __future__ import annotations

import multiprocessing
import re
from pathlib import Path

import torch
from PIL import Image
from skimage import data

from hornet_train.data.loader import LoaderSettings, TrainLoader
from hornet_train.data.order import EpochPlan
from hornet_train.images.policies import parse_policy
from hornet_train.tasks.classification.samples import TrainSamples
from hornet_train.tasks.classification.sources import FolderSource
from hornet_train.tasks.classification.transforms import TrainTransform


def anonymous_megabytes(pid: int | None) -> float:
    found = re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1]) / 1024


def test_no_worker_grows_over_epochs(tmp_path: Path) -> None:
    picture = Image.fromarray(data.astronaut())
    for i in range(48):
        path = tmp_path / "train" / f"class_{i % 3}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.crop((4 * i, 30, 4 * i + 150, 130)).save(path)
    policy = parse_policy("rand-m9-mstd0.5-inc1", (124, 116, 104), "bicubic")
    transform = TrainTransform(64, policies=(policy,), erase_prob=0.25)
    source = FolderSource(tmp_path, "train")
    samples = TrainSamples(transform, seed=0)
    plan = EpochPlan(48, 16, 16, 0, 1, 0, drop_last=True)
    epochs = 90
    loader = TrainLoader(source, samples, plan, LoaderSettings(torch.device("cpu"), workers=1))
    sizes = []
    others = set(multiprocessing.active_children())  # of earlier tests, if they are not collected yet
    for step, _ in enumerate(loader.batches(0, epochs * plan.steps_per_epoch)):
        if step % plan.steps_per_epoch == 0:
            (worker,) = set(multiprocessing.active_children()) - others
            sizes.append(anonymous_megabytes(worker.pid))
    assert len(sizes) == epochs
    assert max(sizes[-10:]) - max(sizes[20:30]) < 2, sizes[::10]
