"""Parameters and FLOPs are the published ones to the unit, by submodule."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from hornet_train.dense import create
from hornet_train.dense.counts import count_dense
from hornet_train.dense.dense_models import PUBLISHED

KNOWN = json.loads((Path(__file__).parents[1] / "reference/dense/dense_counts.json").read_text())


NECK_FIRST = {"upernet_horfpn_7x7": "horfpn_7x7_upernet", "upernet_horfpn_gf": "horfpn_gf_upernet"}
HORFPNS = {"upernet_horfpn_7x7_hornet_small_7x7": 577, "upernet_horfpn_gf_hornet_small_7x7": 575}


@pytest.mark.parametrize("name", PUBLISHED)
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
        (found.parameters, known["params"]),
        (found.macs, known["conv_linear"]),
        (found.flops, known["official"]),
    ):
        assert {**counted, "total": sum(counted.values())} == published
    giga = known["published_gflops"] if name not in HORFPNS else HORFPNS[name]
    assert round(sum(found.flops.values()) / 1e9) == giga
