"""Sharded models on a GPU; tests/faults/test_sharded.py has the runs of several ranks, on CPUs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import timm
import torch
import torch.distributed as dist
from gpu import GPU, NEEDS_GPU

import hornet_train.models  # noqa: F401 - registers
from hornet_train.engine.precision import PrecisionName, autocast
from hornet_train.engine.sharding import full_tensor, unsharded
from hornet_train.run.sharded_models import spread_over_ranks

pytestmark = NEEDS_GPU


@pytest.fixture
def group() -> Iterator[None]:
    """A group of one process: no less collective than many, as far as FSDP is concerned."""
    torch.cuda.set_device(GPU.device)
    dist.init_process_group("nccl", store=dist.HashStore(), rank=0, world_size=1, device_id=GPU.device)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["hornet_pico_7x7", "hornet_pico_gf"])
def test_it_computes_what_the_whole_model_does(
    name: str, precision: PrecisionName, group: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward, backward and in evaluation; the weights stay fp32."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # as our commands do
    images = torch.randn(8, 3, 64, 64, device=GPU.device)
    found = []
    for sharded in (False, True):
        torch.manual_seed(0)
        model = timm.create_model(name, num_classes=10).to(GPU.device).to(memory_format=torch.channels_last)
        if sharded:
            spread_over_ranks(model, name, precision)
        with autocast(precision, GPU.device):
            loss = model(images).float().square().mean()
        loss.backward()
        gradients = {n: full_tensor(p.grad) for n, p in model.named_parameters() if p.grad is not None}
        assert {value.dtype for value in gradients.values()} == {torch.float32}
        model.eval()
        with unsharded(model), torch.inference_mode(), autocast(precision, GPU.device):
            logits = model(images).float()
        flat = torch.cat([gradients[name].flatten() for name in sorted(gradients)])
        found.append((loss.detach(), logits, flat))
    for one, other in zip(*found, strict=True):
        assert (one - other).norm() < (1e-4 if precision == "fp32" else 3e-2) * other.norm()
