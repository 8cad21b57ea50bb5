"""Sums are exact and cheap; top-k counts what it should; the speed leaves out what is not training."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hornet_train.track.running_sums import Speedometer, Sums


class CountReads(TorchDispatchMode):
    """Counts the operations by which the host waits for a number of the device."""

    reads = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func is torch.ops.aten._local_scalar_dense.default:
            self.reads += 1
        return func(*args, **(kwargs or {}))


def test_sums_of_tensors_and_numbers_in_double_precision() -> None:
    sums = Sums()
    loss = torch.tensor(0.1, requires_grad=True)
    with CountReads() as counter:
        for _ in range(1000):
            sums.add(loss=loss * 1.0, count=3)
            sums.add(count=torch.tensor(1))
    assert counter.reads == 0
    read = sums.read()
    assert read == {"count": 4000.0, "loss": pytest.approx(1000 * loss.item(), rel=1e-12)}
    assert sums.read() == read
    sums.reset()
    assert sums.read() == {}


def test_sums_created_in_inference_mode_can_be_changed_outside() -> None:
    sums = Sums()
    with torch.inference_mode():
        sums.add(x=torch.tensor(1.0))
        sums.reduce(lambda vector: vector.mul_(2))
    sums.add(x=torch.tensor(0.5))
    assert sums.read() == {"x": 2.5}


def test_the_first_tensor_is_copied() -> None:
    value, sums = torch.zeros((), dtype=torch.float64), Sums()
    sums.add(x=value)
    sums.add(x=torch.ones(()))
    assert value.item() == 0.0


def test_reduce_adds_up_by_name_also_for_a_rank_without_data() -> None:
    ranks = [Sums("loss", "top1", "count") for _ in range(3)]
    ranks[0].add(top1=torch.tensor(7), loss=1.5, count=8)
    ranks[1].add(count=4, top1=torch.tensor(2), loss=torch.tensor(0.25))
    vectors: list[torch.Tensor] = []
    for rank in ranks:
        rank.reduce(vectors.append)
    total = torch.stack(vectors).sum(0)
    ranks[2].reduce(lambda vector: vector.copy_(total))
    assert ranks[2].read() == {"loss": 1.75, "top1": 9.0, "count": 12.0}


def test_speed_leaves_out_pauses() -> None:
    now = 100.0
    meter = Speedometer(clock=lambda: now)
    now += 4
    meter.add_wait(1.0)
    meter.add_images(80)
    with meter.paused():
        now += 1000
    assert meter.read() == (20.0, 0.25)
    assert meter.read() == (0.0, 0.0)  # an empty window
    meter.pause()
    now += 7
    meter.read()  # a window that ends within a pause: the pause goes on in the next one
    now += 5
    meter.resume()
    now += 2
    meter.add_images(10)
    assert meter.read() == (5.0, 0.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_add_does_not_wait_for_the_device() -> None:
    sums = Sums("count", device="cuda")
    value = torch.tensor(2.0, device="cuda")
    try:
        torch.cuda.set_sync_debug_mode("error")
        for _ in range(3):
            sums.add(loss=value, count=1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sums.read() == {"loss": 6.0, "count": 3.0}
