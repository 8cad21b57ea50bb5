"""Weights as other tools keep them: the same answers as the model they were saved from, and it is said."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

import hornet_train
from hornet_train.errors import CheckpointError
from hornet_train.models.weights import load_into
from hornet_train.models.wrappers import of_one_kind
from hornet_train.run.open_weights import find_weights

HORNET, OTHER = "hornet_pico_7x7", "test_vit"
ARGS = argparse.Namespace(model=OTHER, mean=[0.4, 0.4, 0.4], std=None, crop_pct=0.8, img_size=None)


def model_of(name: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return timm.create_model(name, num_classes=3).eval()


def behind(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def lightning(model: nn.Module, prefix: str) -> dict[str, Any]:
    """As Lightning's Trainer writes it: the module's own names before those of what it holds."""
    return {
        "epoch": 3,
        "global_step": 90,
        "pytorch-lightning_version": "2.5.0",
        "state_dict": {**behind(prefix, model.state_dict()), "loss.weight": torch.ones(3)},
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {},
        "optimizer_states": [],
        "lr_schedulers": [],
        "hyper_parameters": {"lr": 1e-3},
    }


def average(model: nn.Module) -> dict[str, Tensor]:
    averaged = AveragedModel(model)
    averaged.update_parameters(model)
    return averaged.state_dict()


@pytest.mark.parametrize("name", [HORNET, OTHER])
@pytest.mark.parametrize(
    ("file", "kept", "said"),
    [
        ("swa.pth", average, "averaged weights, of 1 updates"),
        ("lit.ckpt", lambda m: lightning(m, "net."), "under 'net.' and left out 1 others: loss (1)"),
        ("lit.ckpt", lambda m: lightning(m, "model.module."), "under 'model.module.' and left out 1"),
        ("dp.pth", lambda m: behind("module.", m.state_dict()), ""),
        ("own.pth", lambda m: {"model": behind("encoder.", m.state_dict())}, "under 'encoder.'"),
    ],
)
def test_the_model_answers_as_it_did(name: str, file: str, kept: Any, said: str, tmp_path: Path) -> None:
    model = model_of(name)
    torch.save(kept(model), tmp_path / file)
    chosen = ["model=timm", f"model.name={name}", "data=imagenet", "precision=fp32", "fuse=false"]
    loaded = hornet_train.load(tmp_path / file, chosen)
    notes = [note for note in loaded.notes if "in timm" not in note]
    assert (said in " ".join(notes)) if said else not notes
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[key], value)
    assert len(loaded.classes) == 3


def test_a_hornet_is_known_behind_a_prefix(tmp_path: Path) -> None:
    model = model_of(HORNET)
    torch.save(lightning(model, "net."), tmp_path / "lit.ckpt")
    loaded = hornet_train.load(tmp_path / "lit.ckpt", ["data=imagenet", "fuse=false"])
    assert torch.equal(loaded.model.state_dict()["head.weight"], model.state_dict()["head.weight"])


def test_averaged_weights_go_before_trained_ones(tmp_path: Path) -> None:
    trained, averaged = model_of(HORNET, 1).state_dict(), model_of(HORNET, 2).state_dict()
    torch.save({"state_dict": {**behind("net.", trained), **behind("ema.", averaged)}}, tmp_path / "a.ckpt")
    references = {"model": trained, "model_ema": average(model_of(HORNET, 2)), "epoch": 1}
    torch.save({**references, "args": argparse.Namespace(lr=0.1)}, tmp_path / "b.pth")
    for file in ("a.ckpt", "b.pth"):
        loaded = hornet_train.load(tmp_path / file, ["data=imagenet", "fuse=false"])
        assert torch.equal(loaded.model.state_dict()["head.weight"], averaged["head.weight"])
    raw = hornet_train.load(tmp_path / "b.pth", ["data=imagenet", "fuse=false", "weights=model"])
    assert torch.equal(raw.model.state_dict()["head.weight"], trained["head.weight"])


def both(
    trained: dict[str, Tensor], averaged: dict[str, Tensor], raw: str, average_in: str
) -> dict[str, Any]:
    return {"state_dict": {**behind(raw, trained), **behind(average_in, averaged), "loss.w": torch.ones(3)}}


def counted(trained: dict[str, Tensor], averaged: dict[str, Tensor], within: str) -> dict[str, Any]:
    kept = both(trained, averaged, "model.", f"{within}.module.")
    return {"state_dict": {**kept["state_dict"], f"{within}.n_averaged": torch.tensor(2)}}


def of_ema_pytorch(trained: dict[str, Tensor], averaged: dict[str, Tensor]) -> dict[str, Any]:
    kept = both(trained, averaged, "net.", "ema.ema_model.")["state_dict"]
    return {"state_dict": {**kept, **behind("ema.online_model.", trained), "ema.step": torch.tensor(9)}}


def of_weight_averaging(trained: dict[str, Tensor], averaged: dict[str, Tensor]) -> dict[str, Any]:
    """As Lightning's callback WeightAveraging keeps them."""
    kept = {"state_dict": behind("model.", averaged), "current_model_state": behind("model.", trained)}
    return {**kept, "averaging_state": {"n_averaged": torch.tensor(2)}, "pytorch-lightning_version": "2.6"}


BOTH = [
    lambda trained, averaged: counted(trained, averaged, "ema_model"),
    lambda trained, averaged: counted(trained, averaged, "shadow"),  # known by its counter
    lambda trained, averaged: both(trained, averaged, "net.", "net_ema."),
    lambda trained, averaged: both(trained, averaged, "model.", "swa_model."),
    lambda trained, averaged: both(trained, averaged, "student.", "averagedModel.module."),
    lambda trained, averaged: {"state_dict": {**trained, **behind("ema.", averaged)}},
    lambda trained, averaged: both(trained, averaged, "lit.net.", "lit.ema.net."),
    of_ema_pytorch,
    of_weight_averaging,
]


@pytest.mark.parametrize("name", [HORNET, OTHER])
@pytest.mark.parametrize("kept", BOTH)
def test_each_kind_is_had_for_the_asking(name: str, kept: Any, tmp_path: Path) -> None:
    models = {"model": model_of(name, 1), "ema": model_of(name, 2)}
    torch.save(kept(*(model.state_dict() for model in models.values())), tmp_path / "a.ckpt")
    for asked, kind in ((None, "ema"), ("ema", "ema"), ("model", "model")):
        found = find_weights(tmp_path / "a.ckpt", asked)
        loaded = model_of(name, 3)
        load_into(loaded, found.tensors)
        assert found.name == kind
        for key, value in models[kind].state_dict().items():
            assert torch.equal(loaded.state_dict()[key], value)


@pytest.mark.parametrize("name", [HORNET, OTHER])
@pytest.mark.parametrize(
    ("prefix", "kind"), [("net.", "model"), ("teacher.", "model"), ("ema_model.module.", "ema")]
)
def test_the_only_kind_is_taken_under_its_name_and_the_other_refused(
    name: str, prefix: str, kind: str, tmp_path: Path
) -> None:
    kept = {**behind(prefix, model_of(name).state_dict()), "loss.w": torch.ones(3)}
    torch.save({"state_dict": kept}, tmp_path / "a.ckpt")
    assert find_weights(tmp_path / "a.ckpt", None).name == kind
    assert find_weights(tmp_path / "a.ckpt", kind).name == kind
    other, called = ("ema", "averaged") if kind == "model" else ("model", "raw")
    with pytest.raises(CheckpointError, match=f"holds no {called} weights: weights={kind}"):
        find_weights(tmp_path / "a.ckpt", other)


def test_it_is_said_which_kind_was_left_out(tmp_path: Path) -> None:
    state = model_of(HORNET).state_dict()
    torch.save(counted(state, state, "ema_model"), tmp_path / "a.ckpt")
    rest = "and left out 1 others: loss (1)"
    assert find_weights(tmp_path / "a.ckpt", None).notes == [
        "left out the raw weights under 'model.' (weights=model)",
        f"took the tensors under 'ema_model.module.' {rest}",
    ]
    assert find_weights(tmp_path / "a.ckpt", "model").notes == [
        "left out the averaged weights under 'ema_model.module.' (weights=ema)",
        f"took the tensors under 'model.' {rest}",
    ]


def test_a_layer_that_is_called_ema_is_no_average() -> None:
    """Of a network with such attention in each stage, beside a layer of the same names."""
    stage = {"weight": torch.ones(2), "bias": torch.ones(2)}
    parts = [f"stages.{k}.{layer}." for k in range(9) for layer in ("ema", "conv", "norm")]
    state = {f"{part}{name}": tensor for part in parts for name, tensor in stage.items()}
    for prefer in ("ema", "model"):
        assert of_one_kind(state, prefer) == (state, [])


def test_timm_says_which_model_it_is_and_how_its_images_were_read(tmp_path: Path) -> None:
    model = model_of(OTHER)
    kept = {"epoch": 1, "arch": OTHER, "state_dict": model.state_dict(), "args": ARGS}
    torch.save(kept, tmp_path / "timm.pth.tar")
    given = ["data=imagenet", "data.image_size=160"]
    said = ["data.mean=[.4,.4,.4]", "data.std=[.5,.5,.5]", "data.crop_pct=.8"]
    pixels = torch.randint(0, 256, (3, 200, 200), dtype=torch.uint8)
    loaded = hornet_train.load(tmp_path / "timm.pth.tar", given)
    asked = hornet_train.load(tmp_path / "timm.pth.tar", [*given, *said])
    assert loaded.predict(pixels) == asked.predict(pixels)
