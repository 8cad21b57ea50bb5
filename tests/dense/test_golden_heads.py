"""Necks and heads against outputs of the published code, for weights that anybody can make again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hornet_train.dense import FcnHead, HorFPN, UperNetHead

FILES = Path(__file__).parents[1] / "reference"
WIDTHS = (96, 192, 384, 768)


def features(seed: int, first: int) -> list[torch.Tensor]:
    shapes = [(1, width, first >> level, first >> level) for level, width in enumerate(WIDTHS)]
    draws = [np.random.RandomState(seed).standard_normal(shape) for shape in shapes]
    return [torch.from_numpy(one.astype(np.float32)) for one in draws]


def filled(module: nn.Module, shapes: dict[str, list[int]], fill: Any) -> nn.Module:
    ours = {name: list(one.shape) for name, one in module.state_dict().items()}
    assert ours == shapes
    assert list(ours) == list(shapes) or sorted(ours) == sorted(shapes)
    module.load_state_dict(fill.fill_(module.state_dict()))
    return module.eval()


def close(ours: torch.Tensor, known: np.ndarray) -> None:
    theirs = torch.from_numpy(known)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@torch.no_grad()
def test_horfpns_neck(fill: Any) -> None:
    shapes = json.loads((FILES / "horfpn_state_dict_shapes.json").read_text())["horfpn_neck_7x7.npz"]
    known = np.load(FILES / "horfpn_neck_7x7.npz")
    outs = filled(HorFPN(WIDTHS, mixer="7x7"), shapes, fill)(features(99, 64))
    assert [one.shape[2] for one in outs] == [64, 32, 16, 8, 4]
    for level, out in enumerate(outs):
        close(out[:, :, ::4, ::4] if out.shape[2] >= 32 else out, known[f"out{level}"])


@torch.no_grad()
def test_upernets_head_with_a_global_filter(fill: Any) -> None:
    shapes = json.loads((FILES / "horfpn_state_dict_shapes.json").read_text())["horfpn_upernet_head_gf.npz"]
    known = np.load(FILES / "horfpn_upernet_head_gf.npz")
    out = filled(UperNetHead(WIDTHS, fusion="gf"), shapes, fill)(features(99, 64))
    assert out.shape == (1, 150, 64, 64)
    close(out[:, :, ::4, ::4], known["out0"])


@torch.no_grad()
def test_upernets_head_with_a_convolution(fill: Any) -> None:
    shapes = json.loads((FILES / "dense/upernet_head_shapes.json").read_text())["upernet_head_conv_small.npz"]
    known = np.load(FILES / "dense/upernet_head_conv_small.npz")
    levels = features(101, 32)
    head = filled(UperNetHead(WIDTHS), shapes["decode_head"], fill)
    pooled, fused = head.pooled(levels[-1]), head.fused(levels)
    for name, one in (("psp", pooled), ("fused", fused)):
        close(one.mean((0, 2, 3)), known[f"{name}_mean"])
        close(one.std((0, 2, 3), unbiased=False), known[f"{name}_std"])
    logits = head(levels)
    close(logits[:, :, ::8, ::8], known["logits"])
    auxiliary = filled(FcnHead(384), shapes["auxiliary_head"], fill)(levels[2])
    close(auxiliary[:, :, ::2, ::2], known["aux_logits"])


@pytest.mark.parametrize("mixer", ["conv", "7x7", "gf"])
def test_the_neck_takes_any_levels(mixer: str) -> None:
    neck = HorFPN([8, 24], out_channels=32, num_outs=3, mixer=mixer)  # type: ignore[arg-type]
    outs = neck([torch.randn(2, 8, 9, 13), torch.randn(2, 24, 5, 7)])
    assert [one.shape for one in outs] == [(2, 32, 9, 13), (2, 32, 5, 7), (2, 32, 3, 4)]
    sum(one.sum() for one in outs).backward()
    assert all(one.grad is not None and one.grad.isfinite().all() for one in neck.parameters())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="mixer is one of conv, 7x7, gf, not 'se'"):
        HorFPN([8], mixer="se")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="num_outs=1 for 2 levels"):
        HorFPN([8, 16], num_outs=1)
    with pytest.raises(ValueError, match="1 levels of features for 2 in_channels"):
        HorFPN([8, 16], 32)([torch.zeros(1, 8, 4, 4)])
    with pytest.raises(ValueError, match="fusion is one of"):
        UperNetHead([8], fusion="fft")  # type: ignore[arg-type]
