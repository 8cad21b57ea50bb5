"""Batch norm over processes is that of the whole batch in one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers import torchrun
from torch import nn

from hornet_train.dense.batch_norm import ConvNorm, SyncBatchNorm2d

RANK = """
import sys, torch, torch.distributed as dist
from hornet_train.dense.batch_norm import SyncBatchNorm2d
dist.init_process_group("gloo")
rank, dtype = dist.get_rank(), getattr(torch, sys.argv[2])
given = torch.load(sys.argv[1] + "/given.pt")
layer = SyncBatchNorm2d(5)
layer.load_state_dict(given["state"])
share = slice(0, 1) if rank == 0 else slice(1, 4)  # unequal
x = given["x"][share].to(dtype).requires_grad_()
out = layer(x)
out.backward(given["gradient"][share].to(dtype))
for one in layer.parameters():
    dist.all_reduce(one.grad)
assert out.dtype == x.grad.dtype == dtype
torch.save(
    {"out": out.detach(), "x": x.grad, "state": layer.state_dict(),
     "parameters": [one.grad for one in layer.parameters()]},
    f"{sys.argv[1]}/rank{rank}.pt",
)
layer.eval()(x)  # alone
"""


@pytest.mark.parametrize(("dtype", "close"), [("float32", 1e-5), ("bfloat16", 2e-2)])
def test_two_processes_have_the_statistics_of_one(tmp_path: Path, dtype: str, close: float) -> None:
    torch.manual_seed(0)
    whole = nn.BatchNorm2d(5)
    for one in whole.state_dict().values():
        if one.is_floating_point():
            one.uniform_(0.5, 1.5)
    x, gradient = 10 + torch.randn(4, 5, 6, 7), torch.randn(4, 5, 6, 7)
    x, gradient = (one.to(getattr(torch, dtype)).float() for one in (x, gradient))  # both read the same
    x.requires_grad_()
    torch.save({"state": whole.state_dict(), "x": x.detach(), "gradient": gradient}, tmp_path / "given.pt")
    (tmp_path / "rank.py").write_text(RANK)
    done = torchrun(2, f"{tmp_path}/rank.py", str(tmp_path), dtype)
    assert done.returncode == 0, done.stderr
    ranks = [torch.load(tmp_path / f"rank{rank}.pt") for rank in (0, 1)]
    out = whole(x)
    out.backward(gradient)
    for name, known in (("out", out.detach()), ("x", x.grad)):
        found = torch.cat([one[name] for one in ranks]).float()
        assert (found - known).norm() < close * known.norm()
    for one in ranks:
        for name, value in whole.state_dict().items():
            torch.testing.assert_close(one["state"][name], value, rtol=close, atol=close)
        for found, known in zip(one["parameters"], whole.parameters(), strict=True):
            assert (found - known.grad).norm() < close * known.grad.norm()


def test_alone_it_is_plain_batch_norm() -> None:
    torch.manual_seed(0)
    plain, ours = nn.BatchNorm2d(5), SyncBatchNorm2d(5)
    assert list(plain.state_dict()) == list(ours.state_dict())
    x = torch.randn(3, 5, 4, 4)
    assert torch.equal(ours(x), plain(x))
    assert torch.equal(ours.running_var, plain.running_var)
    assert torch.equal(ours.eval()(x), plain.eval()(x))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        ours.train()(torch.randn(1, 5, 1, 1))


def test_without_a_norm_there_is_a_bias_and_no_relu() -> None:
    layer = ConvNorm(4, 6, 1, norm=False)
    assert sorted(layer.state_dict()) == ["conv.bias", "conv.weight"]
    assert (layer(torch.randn(2, 4, 5, 5)) < 0).any()
    assert not (ConvNorm(4, 6, 3)(torch.randn(2, 4, 5, 5)) < 0).any()
