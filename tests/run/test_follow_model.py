"""`from=` with another model: what the old model had asked for is not the new one's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import yaml
from configs import compose_train

from hornet_train.config.compose import Composed
from hornet_train.run.follow_model import follow_model
from hornet_train.tasks.table import kit_of

KEYS = ("mean", "std", "crop_pct", "interpolation")
HORNET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 0.875, "bicubic")
VIT = ([0.5] * 3, [0.5] * 3, 0.9, "bicubic")
VIT_MODEL = ["model=timm", "model.name=vit_tiny_patch16_224"]
PICO = ["model=hornet_pico_7x7"]
FOLDER = ["data=folder", "data.root=/x"]
VIT_SAYS = (
    "data.mean=[0.5,0.5,0.5], data.std=[0.5,0.5,0.5], data.crop_pct=0.9: as vit_tiny_patch16_224 has it"
)
PICO_SAYS = (
    "data.mean=[0.485,0.456,0.406], data.std=[0.229,0.224,0.225], data.crop_pct=0.875: as hornet_pico_7x7"
)
DIGITS = ([0.305] * 3, [0.376] * 3, 1.0, "bicubic")  # statistics of its own, whatever the model


def followed(*overrides: str) -> Composed[Any]:
    def compose(more: list[str]) -> Composed[Any]:
        return compose_train([*overrides, *more])

    return follow_model(kit_of("classification"), compose([]), compose)


def run(folder: Path, *overrides: str) -> str:
    """The run folder of such a training, as far as its config."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(followed(*overrides, f"run_dir={folder}").yaml())
    return f"from={folder}"


def values(composed: Composed[Any]) -> tuple[Any, ...]:
    return tuple(composed.tree["data"][key] for key in KEYS)


def test_timm_has_what_is_expected_here() -> None:
    known = timm.get_pretrained_cfg(VIT_MODEL[1].partition("=")[2])
    assert tuple(getattr(known, key) for key in KEYS) == (*map(tuple, VIT[:2]), *VIT[2:])


@pytest.mark.parametrize(
    ("before", "after", "expected", "note"),
    [
        (PICO, VIT_MODEL, VIT, f"{VIT_SAYS} in timm, not hornet_pico_7x7; the command line"),
        (VIT_MODEL, PICO, HORNET, f"{PICO_SAYS} has it, not vit_tiny_patch16_224; the command line"),
        (
            VIT_MODEL,
            ["model.name=resnet18.tv_in1k"],
            (*HORNET[:3], "bilinear"),
            "data.interpolation=bilinear: as ",
        ),
        (
            VIT_MODEL,
            ["model.name=deit_tiny_patch16_224"],
            (*HORNET[:2], *VIT[2:]),
            "as deit_tiny_patch16_224",
        ),
    ],
)
def test_what_followed_from_the_old_model_follows_the_new_one(
    before: list[str], after: list[str], expected: Any, note: str, tmp_path: Path
) -> None:
    again = followed(run(tmp_path / "a", *FOLDER, *before), *after)
    assert values(again) == expected
    group = [] if after in (PICO, VIT_MODEL) else ["model=timm"]
    assert values(followed(*FOLDER, *group, *after)) == expected  # as without from=
    assert len(again.notes) == 1
    assert note in again.notes[0]
    assert again.repeats is not None
    assert not again.repeats.own_images


def test_what_was_given_stays(tmp_path: Path) -> None:
    old = run(tmp_path / "a", *FOLDER, *PICO, "data.mean=[.1,.2,.3]", "data.crop_pct=1")
    again = followed(old, *VIT_MODEL, "data.std=[.4,.4,.4]")
    assert values(again) == ([0.1, 0.2, 0.3], [0.4] * 3, 1.0, "bicubic")
    assert again.notes == (
        f"data.mean=[0.1,0.2,0.3], data.crop_pct=1.0: as given to {tmp_path}/a/config.yaml; "
        "vit_tiny_patch16_224 has data.mean=[0.5,0.5,0.5] data.crop_pct=0.9",
    )
    # HorNet's own values are not what a ViT has by itself: somebody gave them
    usual = run(tmp_path / "b", *FOLDER, *VIT_MODEL, "data.mean=[.485,.456,.406]")
    other = followed(usual, "model.name=vit_small_patch16_224")
    assert values(other) == (HORNET[0], *VIT[1:])
    assert "data.mean=[0.485,0.456,0.406]: as given to" in other.notes[0]
    assert values(followed(usual, *PICO)) == HORNET


@pytest.mark.parametrize(
    "more", [["model.args.patch_size=8"], [*VIT_MODEL, "model.args.patch_size=8"], ["seed=1"]]
)
def test_the_same_model_changes_nothing(more: list[str], tmp_path: Path) -> None:
    again = followed(run(tmp_path / "a", *FOLDER, *VIT_MODEL, "data.crop_pct=1"), *more)
    assert (values(again), again.notes) == ((*VIT[:2], 1.0, "bicubic"), ())


def test_data_with_statistics_of_their_own_keep_them(tmp_path: Path) -> None:
    for number, (before, after) in enumerate(((PICO, VIT_MODEL), (VIT_MODEL, PICO))):
        again = followed(run(tmp_path / str(number), "data=digits", *before), *after)
        assert (values(again), again.notes) == (DIGITS, ())


def test_other_data_get_what_the_model_asks_for(tmp_path: Path) -> None:
    old = run(tmp_path / "a", "data=digits", *VIT_MODEL)
    again = followed(old, *FOLDER)
    assert values(again) == VIT
    assert f"{VIT_SAYS} in timm; the command line" in again.notes[0]
    assert values(followed(old, *FOLDER, *PICO)) == HORNET
    assert values(followed(run(tmp_path / "b", *FOLDER, *VIT_MODEL), "data=digits")) == DIGITS


def test_the_second_start_of_a_repetition_is_the_same(tmp_path: Path) -> None:
    old = run(tmp_path / "a", *FOLDER, *PICO)
    given = (old, *VIT_MODEL, f"run_dir={tmp_path}/b")
    first = followed(*given)
    (tmp_path / "b").mkdir()
    (tmp_path / "b/config.yaml").write_text(first.yaml())
    assert followed(*given).tree == first.tree


def test_the_printed_config_is_that_of_the_training(
    tmp_path: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    for number, (before, after, mean) in enumerate(((PICO, VIT_MODEL, 0.5), (VIT_MODEL, PICO, 0.485))):
        code, out, err = command(
            "hornet-train", run(tmp_path / str(number), *FOLDER, *before), *after, "--cfg", "job"
        )
        assert code == 0, err
        assert yaml.safe_load(out)["data"]["mean"][0] == mean
