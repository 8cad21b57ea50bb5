"""The monitor of gating products sees what the gating computes."""

from __future__ import annotations

import copy
import pickle

import pytest
import timm
import torch

from hornet_train.models.monitor import GateMonitor


def largest_products(model, x):
    """Each stage's largest product, from a gating written out again."""
    peaks = []
    for downsample, stage in zip(model.downsample_layers, model.stages, strict=True):
        x, peak = downsample(x), 0.0
        for block in stage:
            layer = block.gnconv
            p, q = layer.proj_in(block.norm1(x)).split((layer.widths[0], layer.total_width), dim=1)
            gates = (layer.scale * layer.dwconv(q)).split(layer.widths, dim=1)
            for order, gate in enumerate(gates):
                p = (layer.pws[order - 1](p) if order else p) * gate
                peak = max(peak, p.abs().max().item())
            x = block(x)
        peaks.append(peak)
    return peaks


def taken(monitor):
    """What it has seen; it starts again."""
    greatest = monitor.read()
    monitor.restart({})
    return greatest


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.long
def test_the_largest_product_of_each_stage(filled, compiled):
    few = {"depths": (1, 1, 1, 1), "orders": (2, 1, 3, 2)} if compiled else {}
    model = filled("hornet_pico_gf", num_classes=10, **few)
    x = torch.randn(2, 3, 32, 32)
    expected = [
        max(both) for both in zip(largest_products(model, x), largest_products(model, 0.1 * x), strict=True)
    ]
    monitor = GateMonitor(model)
    assert monitor.names == ("gate_product_0", "gate_product_1", "gate_product_2", "gate_product_3")
    network = torch.compile(model, backend="aot_eager", fullgraph=True) if compiled else model
    network.train()
    network(0.1 * x)
    network(x)  # the greater of both
    torch.testing.assert_close(taken(monitor), torch.tensor(expected), rtol=1e-4, atol=0)
    assert not taken(monitor).any()  # it began again
    network.eval()
    network(x)
    assert not taken(monitor).any()  # evaluations are not watched
    monitor.close()
    network.train()(x)
    assert not taken(monitor).any()


def test_the_last_product_counts_too():
    """It is the only one at order 1."""
    model = timm.create_model("hornet_pico_7x7", orders=1, num_classes=10).train()
    x = torch.randn(2, 3, 32, 32)
    seen = []
    model.stages[0][0].gnconv.proj_out.register_forward_pre_hook(
        lambda _module, inputs: seen.append(inputs[0].abs().max().item())
    )
    monitor = GateMonitor(model)
    model(x)
    assert taken(monitor)[0].item() == pytest.approx(seen[0])


def test_it_goes_on_from_what_was_seen_before(filled):
    model = filled("hornet_pico_7x7", num_classes=10).train()
    monitor = GateMonitor(model)
    x = torch.randn(1, 3, 32, 32)
    model(x)
    seen = taken(monitor)
    monitor.restart({"gate_product_0": 1e6, "gate_product_1": 0.0, "gate_product_2": float("nan"), "x": 7.0})
    model(x)
    assert monitor.read()[0] == 1e6
    torch.testing.assert_close(monitor.read()[[1, 3]], seen[[1, 3]], rtol=0, atol=0)
    assert monitor.read()[2].isnan()
    kept = monitor.read()
    model(100 * x)
    assert not torch.equal(kept[1:2], monitor.read()[1:2])  # it was a copy


def test_copies_have_peaks_of_their_own(filled):
    model = filled("hornet_pico_7x7", num_classes=10).train()
    monitor = GateMonitor(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        twin(torch.randn(1, 3, 32, 32))
        assert not taken(monitor).any()


def test_a_product_that_is_no_number_is_reported(filled):
    model = filled("hornet_pico_7x7", num_classes=10).train()
    monitor = GateMonitor(model)
    model.stages[1][0].gnconv.proj_in.weight.data.fill_(torch.nan)
    model(torch.randn(1, 3, 32, 32))
    peaks = taken(monitor)
    assert peaks[0].isfinite()
    assert peaks[1:].isnan().all()
    model.stages[1][0].gnconv.proj_in.weight.data.fill_(0.0)
    model(torch.randn(1, 3, 32, 32))
    assert taken(monitor).isfinite().all()


def test_a_model_without_gating_is_refused():
    with pytest.raises(ValueError, match="no gnConv"):
        GateMonitor(timm.create_model("hornet_pico_7x7", gating="none"))
