"""Parameters and FLOPs are the published ones to the unit, by submodule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hornet_train.dense import create
from hornet_train.dense.counts import count_dense
from hornet_train.dense.dense_models import DETECTORS, SEGMENTERS

KNOWN = json.loads((Path(__file__).parents[1] / "reference/dense/dense_counts.json").read_text())


NECK_FIRST = {
    f"{model}_{neck}": f"{neck}_{model}"
    for model in ("upernet", "mask_rcnn")
    for neck in ("horfpn_7x7", "horfpn_gf", "fpn")
}
HORFPNS = {"upernet_horfpn_7x7_hornet_small_7x7": 577, "upernet_horfpn_gf_hornet_small_7x7": 575}


def of_submodules(published: dict[str, int]) -> dict[str, int]:
    """By the names of the submodules, which the published counts of parameters shorten."""
    heads = {name: value for name, value in published.items() if name.startswith(("bbox_", "mask_"))}
    single = "bbox_head.1" not in heads
    others = {name: value for name, value in published.items() if name not in heads}
    return others | {
        f"roi_head.{name.removesuffix('.0') if single else name}": value for name, value in heads.items()
    }


@pytest.mark.parametrize("name", [*SEGMENTERS, *DETECTORS])
def test_counts_are_the_published_ones(name: str) -> None:
    row = name
    for ours, theirs in NECK_FIRST.items():
        row = row.replace(ours, theirs)
    known = KNOWN[row]
    with torch.device("meta"):
        model = create(name).train()
    found = count_dense(model, tuple(known["input"]))
    assert model.training
    for counted, published in (
        (found.parameters, of_submodules(known["params"])),
        (found.macs, known["conv_linear"]),
        (found.flops, known["official"]),
    ):
        assert {**counted, "total": sum(counted.values())} == published
    giga = known.get("published_gflops", HORFPNS.get(name))
    assert giga is None or round(sum(found.flops.values()) / 1e9) == giga
