"""What counts as another run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from configs import compose_train

from hornet_train.config.stored import differences
from hornet_train.tasks.classification.schema import ClassificationConfig

BASE = compose_train([]).tree


@pytest.mark.parametrize(
    "neutral",
    [
        "run_dir=x",
        "resume=force",
        "data.workers=3",
        "micro_batch_size=48",
        "log=wandb",
        "checkpoint.every=7it",
        "eval.every=2ep",
        "dist=cpu",
        "model.grad_checkpointing=true",
        "epochs=24ep",  # the same, written otherwise
        "schedule.warmup=3.0ep",
        "compile=no",
    ],
)
def test_how_a_run_is_carried_out_may_change(neutral: str) -> None:
    assert differences(BASE, compose_train([neutral]).tree, ClassificationConfig) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ("seed=1", "seed: 0 -> 1"),
        ("batch_size=48", "batch_size: 96 -> 48"),
        ("epochs=25", "epochs: 24ep -> 25ep"),
        ("augment.mixup=0", "augment.mixup: 0.4 -> 0.0"),
        ("ema=none", "ema.enabled: True -> False"),
        ("precision=bf16", "precision: fp32 -> bf16"),
        ("model.args.scale=1.0", "model.args.scale: (none) -> 1.0"),
    ],
)
def test_what_a_run_computes_may_not(changed: str, message: str) -> None:
    assert message in differences(BASE, compose_train([changed]).tree, ClassificationConfig)


def test_keys_that_are_younger_than_a_run_are_no_difference_until_they_are_used() -> None:
    tree = compose_train(["data=folder", "data.root=x"]).tree
    younger = ("exif", "class_order", "val_share")
    old = {**tree, "data": {name: value for name, value in tree["data"].items() if name not in younger}}
    assert differences(old, tree, ClassificationConfig) == []
    used = {**tree, "data": {**tree["data"], "exif": "apply", "class_order": "natural"}}
    assert sorted(differences(old, used, ClassificationConfig)) == [
        *("data.class_order: sorted -> natural", "data.exif: ignore -> apply"),
    ]


def test_a_run_of_an_earlier_version_is_the_same_run_today(tmp_path: Path) -> None:
    """Its config.yaml is written byte for byte as then, but for what an evaluation does with damage where
    nobody says it, and keys that are younger, the channels, EXIF and layer decay by stages; and it can be
    repeated."""
    old = Path(__file__).parents[1] / "old_run"
    text = (old / "run/config.yaml").read_text()
    now = compose_train(json.loads((old / "expected.json").read_text())["arguments"])
    today = text.replace("  num_classes: null\n", "  num_classes: null\n  in_chans: 3\n")
    today = today.replace("  workers:", "  exif: ignore\n  workers:")
    younger = "  layer_decay_by: layers\n  layer_decay_depth: null\n"
    today = today.replace("  layer_decay: 0.9\n", f"  layer_decay: 0.9\n{younger}")
    assert now.yaml() == today.replace("on_bad: error", "on_bad: null")
    assert differences(yaml.safe_load(text), now.tree, ClassificationConfig) == []
    again = compose_train([f"from={old}/run", "run_dir=run"])
    assert again.yaml() == today
    assert again.repeats is not None
    assert again.repeats.notes == []
    folder = compose_train(["data=folder", "data.root=x"]).tree
    older = {**folder, "data": {key: value for key, value in folder["data"].items() if key != "class_map"}}
    assert differences(older, folder, ClassificationConfig) == []
    grey = compose_train([*json.loads((old / "expected.json").read_text())["arguments"], "model.in_chans=1"])
    assert differences(yaml.safe_load(text), grey.tree, ClassificationConfig) == ["model.in_chans: 3 -> 1"]
