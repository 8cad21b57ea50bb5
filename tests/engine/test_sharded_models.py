"""Sharded models of timm compute what whole ones do, on a CPU, in a group of one process.

tests/faults/test_sharded.py has trainings on several ranks, test_sharding.py what a GPU does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional

import hornet_train.models  # noqa: F401 - registers
from hornet_train.engine.precision import PrecisionName, autocast
from hornet_train.engine.sharding import full_tensor, unsharded
from hornet_train.errors import ConfigError
from hornet_train.run.sharded_models import blocks_of, spread_over_ranks

CPU = torch.device("cpu")
MODELS: dict[str, dict[str, Any]] = {
    "resnet10t": {},  # batch norms in the blocks and in the stem
    "mobilenetv3_small_050": {},
    "regnetx_002": {},
    "test_byobnet": {},
    "test_efficientnet": {},  # batch norms that hold their activation
    "test_efficientnet_evos": {},  # running statistics, and no batch norm
    "test_nfnet": {},  # standardised weights
    "test_convnext": {},
    "test_vit": {"img_size": 64},
    "test_coatnet": {"img_size": 64},  # blocks with batch norms and blocks without
    "levit_128s": {"img_size": 64},  # batch norms after linear layers
    "xcit_nano_12_p16_224": {"depth": 2},  # layer norms that meet what batch norms give
    "swin_tiny_patch4_window7_224": {
        "img_size": 64,
        "window_size": 2,
        "embed_dim": 24,
        "depths": (1, 1),
        "num_heads": (3, 6),
    },
    "twins_svt_small": {"embed_dims": (16, 32, 64, 64), "depths": (2, 2, 2, 2)},  # lists of lists of blocks
    "coat_tiny": {  # blocks share modules
        "img_size": 64,
        "embed_dims": (32, 32, 32, 32),
        "serial_depths": (2, 2, 2, 2),
        "parallel_depth": 2,
    },
    "hornet_pico_gf": {},
    "hornet_pico_7x7": {"gating": "se"},
}


@pytest.fixture(scope="module")
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module .* returned a view tensor")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", MODELS)
def test_it_computes_what_the_whole_model_does(name: str, precision: PrecisionName, group: None) -> None:
    """The loss, the gradient, and what an evaluation sees after it."""
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3])
    found = []
    for sharded in (False, True):
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=4, **MODELS[name])
        if sharded:
            spread_over_ranks(model, name, precision)
        with autocast(precision, CPU):
            loss = functional.cross_entropy(model(images).float(), labels)
        loss.backward()
        gradients = {key: full_tensor(p.grad) for key, p in model.named_parameters() if p.grad is not None}
        assert {value.dtype for value in gradients.values()} == {torch.float32}
        model.eval()
        with unsharded(model), torch.inference_mode(), autocast(precision, CPU):
            logits = model(images).float()
        flat = torch.cat([gradients[key].flatten() for key in sorted(gradients)])
        found.append((loss.detach(), logits, flat))
    rel = 5e-2 if precision == "bf16" and name.startswith("hornet") else 1e-4  # whose weights are rounded
    for one, other in zip(*found, strict=True):
        assert (one - other).norm() <= rel * other.norm()


def test_parts_that_share_weights_are_not_cut_out() -> None:
    shared = nn.Linear(4, 4)
    blocks = [nn.Sequential(nn.Linear(4, 4)), nn.Sequential(shared), nn.Sequential(shared, nn.ReLU())]
    blocks += [nn.Sequential(nn.Linear(4, 4)) for _ in range(2)]
    model = nn.Module()
    model.blocks, model.head = nn.Sequential(*blocks), nn.Linear(4, 4)
    model.head.weight = blocks[4][0].weight
    assert blocks_of(model) == [blocks[0], blocks[3]]


def test_a_model_with_single_numbers_for_parameters_is_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    model.register_parameter("gain", nn.Parameter(torch.tensor(1.0)))
    with pytest.raises(ConfigError, match=r"dist=fsdp cannot spread mine: 1 .*\(gain, \.\.\.\).*dist=ddp"):
        spread_over_ranks(model, "mine", "fp32")
