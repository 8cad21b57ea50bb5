"""Drawn objects with their masks, by scripts/make_shapes.py, as folders of a test."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from helpers import ROOT

# the smallest useful training of segmentation
SEGMENT = [
    "recipe=masks",
    "model.channels=16",
    "model.args={dim: 8, depths: [1, 1, 1, 1], stem_stride: 2}",
    "data.image_size=32",
    "data.workers=0",
    "batch_size=8",
    "log.every=1it",
    "schedule.warmup=1it",
    "eval.every=1ep",
    "checkpoint.every=1ep",
]

# the smallest useful training of detection
DETECT = [
    "recipe=objects",
    "model.channels=8",
    "model.width=16",
    "model.args={dim: 8, depths: [1, 1, 1, 1]}",
    "data.scale=[48,64]",
    "augment.short_sides=[40,48]",
    "data.workers=0",
    "batch_size=4",
    "log.every=1it",
    "schedule.warmup=1it",
    "eval.every=1ep",
    "checkpoint.every=1ep",
]


def make_shapes() -> ModuleType:
    """The script as a module."""
    if "make_shapes" not in sys.modules:
        spec = importlib.util.spec_from_file_location("make_shapes", ROOT / "scripts" / "make_shapes.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["make_shapes"] = module
        spec.loader.exec_module(module)
    return sys.modules["make_shapes"]


def write_shapes(out: Path, train: int = 24, val: int = 9, size: int = 48) -> Path:
    """Pictures with masks of 8 classes; the folder."""
    make_shapes().write_scenes(out, {"train": train, "val": val}, size, 4, seed=0)
    return out
