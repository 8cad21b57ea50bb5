"""Whole models by name: names and shapes of the official checkpoints, and outputs of the published code."""

from __future__ import annotations

import gzip
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from hornet_train.dense import create
from hornet_train.dense.backbone import build_backbone, features_of, widths_of
from hornet_train.dense.batch_norm import SyncBatchNorm2d
from hornet_train.dense.dense_models import SEGMENTERS, upernet

FILES = Path(__file__).parents[1] / "reference/dense"


def shapes(model: torch.nn.Module) -> dict[str, list[int]]:
    return {name: list(one.shape) for name, one in model.state_dict().items()}


def test_names_are_the_official_ones() -> None:
    with torch.device("meta"):
        tiny = create("upernet_hornet_tiny_7x7")
        assert shapes(tiny) == json.loads(
            gzip.decompress((FILES / "keys_upernet_hornet_tiny_7x7.json.gz").read_bytes())
        )
        for fusion in ("7x7", "gf"):
            name = f"upernet_horfpn_{fusion}_hornet_small_7x7"
            heads = {key: one for key, one in shapes(create(name)).items() if key.split(".")[0] != "backbone"}
            assert heads == json.loads((FILES / f"keys_{name}_heads_only.json").read_text())


@pytest.mark.parametrize("name", SEGMENTERS)
def test_every_published_model_is_there(name: str) -> None:
    with torch.device("meta"):
        model = create(name, num_classes=7)
    grids = {
        tuple(one.shape[1:3])
        for key, one in model.state_dict().items()
        if "backbone" in key and "complex" in key
    }
    assert grids == ({(24, 13), (12, 7)} if name.endswith("_gf") else set())
    assert model.decode_head.conv_seg.out_channels == 7


@torch.no_grad()
def test_a_whole_model_gives_the_published_outputs(fill: Any) -> None:
    known = np.load(FILES / "upernet_whole_tiny_7x7_96x128.npz")
    model = create("upernet_hornet_tiny_7x7")
    model.load_state_dict(fill.fill_(model.state_dict()))
    images = fill.image_batch(1, 96, 128)
    model.eval()
    for level, one in enumerate(features_of(model.backbone, images)):
        for what, value in (("mean", one.mean((0, 2, 3))), ("std", one.std((0, 2, 3), unbiased=False))):
            theirs = torch.from_numpy(known[f"backbone{level}_{what}"])
            torch.testing.assert_close(value.view_as(theirs), theirs, rtol=1e-4, atol=1e-4)
    logits = model(images)
    theirs = torch.from_numpy(known["logits"])
    assert (logits[:, ::10, ::8, ::8] - theirs).abs().max() <= 1e-4 * theirs.abs().max()
    other = logits.argmax(1) != torch.from_numpy(known["argmax"].astype(np.int64)).view_as(logits.argmax(1))
    assert other.sum() <= int(known["near_ties"])
    auxiliary = model(images, of_heads=True)[1]
    for what, value in (
        ("mean", auxiliary.mean((0, 2, 3))),
        ("std", auxiliary.std((0, 2, 3), unbiased=False)),
    ):
        theirs = torch.from_numpy(known[f"aux_{what}"])
        torch.testing.assert_close(value.view_as(theirs), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "name", ["resnet18", "test_convnext", "swin_tiny_patch4_window7_224", "hornet_pico_gf"]
)
def test_any_backbone_of_timm_carries_it(name: str) -> None:
    sized = {"img_size": 64} if "swin" in name or "gf" in name else {}
    model = upernet(build_backbone(name, **sized), 5, channels=32, fusion="7x7")
    images = torch.randn(2, 3, 64, 64)
    levels = features_of(model.backbone, images)
    assert [one.shape[1] for one in levels] == list(widths_of(model.backbone))
    assert all(a.shape[2] == 2 * b.shape[2] for a, b in pairwise(levels))
    assert model(images).shape == (2, 5, 64, 64)
    (model(images).square().mean() + model(images, of_heads=True)[1].square().mean()).backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in model.parameters())


@pytest.mark.parametrize("size", [(64, 64), (64, 96)])
def test_levels_are_not_guessed_from_their_sizes(size: tuple[int, int]) -> None:
    """A map with the channels last, of as many rows as channels, looks like one that has them first."""
    narrow = {"embed_dim": 16, "depths": (1, 1, 1, 1), "num_heads": (1, 2, 4, 8)}
    backbone = build_backbone("swin_tiny_patch4_window7_224", img_size=64, **narrow).eval()
    images = torch.randn(1, 3, *size)
    with torch.no_grad():
        found, theirs = features_of(backbone, images), backbone(images)
    assert found[0].shape == (1, 16, size[0] // 4, size[1] // 4)
    for ours, one in zip(found, theirs, strict=True):
        assert torch.equal(ours, one.permute(0, 3, 1, 2))


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0"])
def test_norms_of_a_backbone_are_those_of_all_processes(name: str) -> None:
    plain = timm.create_model(name, features_only=True).eval()
    backbone = build_backbone(name).eval()
    backbone.load_state_dict(plain.state_dict())
    kinds = [module for module in backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert kinds
    assert all(isinstance(module, SyncBatchNorm2d) for module in kinds)
    images = torch.randn(2, 3, 64, 64)
    for ours, theirs in zip(features_of(backbone, images), plain(images), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_what_is_no_backbone_or_model_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no such dense model; did you mean 'upernet_hornet_tiny_7x7'\?"):
        create("upernet_hornet_tiny_7x")
    with pytest.raises(ValueError, match="a pyramid needs rising ones"):
        build_backbone("test_vit", img_size=64)
