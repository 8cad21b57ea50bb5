"""Schedules at their end points, groups by the published rules, the average by its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import timm
import torch
from torch import nn

from hornet_train.models.structure import layer_ids
from hornet_train.optim.ema import AveragedModel, initial_share
from hornet_train.optim.groups import parameter_groups
from hornet_train.optim.optimizers import adamw, set_learning_rate
from hornet_train.optim.schedules import cosine, multistep, poly


def test_cosine_is_the_published_schedule() -> None:
    """Warmup as a linspace from 0 to the peak inclusive, then half a cosine, its end point left out."""
    total, warmup, peak, floor = 50, 8, 4e-3, 1e-6
    rest = np.arange(total - warmup)
    fall = [floor + 0.5 * (peak - floor) * (1 + math.cos(math.pi * i / len(rest))) for i in rest]
    expected = [*np.linspace(0, peak, warmup), *fall]
    schedule = cosine(peak=peak, total=total, warmup=warmup, floor=floor)
    np.testing.assert_allclose([schedule(step) for step in range(total)], expected, rtol=1e-12)
    assert schedule(total - 1) > floor
    assert cosine(peak=1.0, total=10)(0) == 1.0
    assert cosine(peak=1.0, total=10, warmup=10)(9) == 1.0


def test_poly_and_multistep() -> None:
    line = poly(peak=2.0, total=12, warmup=2)
    assert [line(2), line(7)] == [2.0, 1.0]
    assert 0 < line(11) < 0.21
    stairs = multistep(peak=1.0, total=36, warmup=3, milestones=(27, 33), gamma=0.1)
    assert [stairs(step) for step in (0, 1, 2, 26)] == [0, 0.5, 1, 1]
    assert [stairs(step) for step in (27, 32, 33)] == pytest.approx([0.1, 0.1, 0.01])
    with pytest.raises(ValueError, match="does not fit"):
        cosine(peak=1.0, total=5, warmup=6)


def test_weight_decay_spares_norms_biases_and_layer_scale() -> None:
    model = timm.create_model("hornet_pico_gf", num_classes=10)
    groups = parameter_groups(model.named_parameters(), weight_decay=0.05)
    by_name = {name: group["weight_decay"] for group in groups for name in group["names"]}
    assert len(by_name) == len(list(model.parameters()))
    assert by_name["stages.2.0.gnconv.dwconv.complex_weight"] == 0.05
    assert by_name["stages.0.0.gnconv.dwconv.weight"] == 0.05
    assert by_name["head.weight"] == 0.05
    for spared in ("stages.0.0.gamma1", "stages.0.0.norm1.weight", "head.bias", "norm.weight"):
        assert by_name[spared] == 0.0


def test_layer_decay_has_the_published_scales() -> None:
    with torch.device("meta"):
        model = timm.create_model("hornet_tiny_7x7")
    groups = parameter_groups(
        model.named_parameters(), weight_decay=1e-8, layer_decay=0.7, layer_ids=layer_ids(model)
    )
    scale = {name: group["lr_scale"] for group in groups for name in group["names"]}
    published = {
        "downsample_layers.0.0.weight": 0.00969,
        "stages.0.1.gamma1": 0.01384,
        "downsample_layers.1.1.weight": 0.01977,
        "stages.1.2.pwconv1.weight": 0.01977,
        "downsample_layers.2.0.bias": 0.02825,
        "stages.2.0.norm1.weight": 0.02825,
        "stages.2.17.pwconv2.bias": 0.49,
        "downsample_layers.3.1.weight": 0.7,
        "stages.3.1.gnconv.pws.0.weight": 0.7,
        "norm.weight": 1.0,
        "head.weight": 1.0,
    }
    for name, value in published.items():
        assert scale[name] == pytest.approx(value, rel=1e-3), name
    assert len({group["lr_scale"] for group in groups}) == 14


@pytest.mark.parametrize("implementation", ["auto", "fused", "foreach", "loop"])
def test_adamw_is_the_published_rule(implementation: str) -> None:
    """One parameter by hand: decoupled decay, bias-corrected moments, the group's share of the rate."""
    weight = nn.Parameter(torch.tensor([[1.0, -2.0]], dtype=torch.float64))
    groups = [{"params": [weight], "weight_decay": 0.1, "lr_scale": 0.5, "names": ["w"]}]
    optimizer = adamw(groups, betas=(0.9, 0.99), eps=1e-8, implementation=implementation)  # type: ignore[arg-type]
    expected, m, v = weight.detach().clone(), 0.0, 0.0
    for step in range(1, 4):
        set_learning_rate(optimizer, 0.02)
        weight.grad = grad = torch.tensor([[0.3, -0.7]], dtype=torch.float64) * step
        optimizer.step()
        m, v = 0.9 * m + 0.1 * grad, 0.99 * v + 0.01 * grad**2
        update = (m / (1 - 0.9**step)) / ((v / (1 - 0.99**step)).sqrt() + 1e-8)
        expected = expected * (1 - 0.01 * 0.1) - 0.01 * update
    torch.testing.assert_close(weight.detach(), expected, rtol=1e-7, atol=1e-9)


def test_the_average_follows_its_definition() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    average = AveragedModel(model, decay=0.75, warmup=True)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for step in range(4):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(8, 3))  # moves batch norm's statistics and count
        average.update(step)
        decay = min(0.75, (1 + step) / (10 + step))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * value
            else:
                expected[name] = value.clone()
    torch.testing.assert_close(dict(average.module.state_dict()), expected)
    assert not any(parameter.requires_grad for parameter in average.module.parameters())
    with pytest.raises(ValueError, match="decay"):
        AveragedModel(model, decay=1.0)


@pytest.mark.parametrize("warmup", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.7, 0.9999])
def test_how_much_of_an_average_is_what_it_began_with(warmup: bool, decay: float) -> None:
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(model.weight)
    average = AveragedModel(model, decay=decay, warmup=warmup)
    nn.init.zeros_(model.weight)
    for step in range(40):
        assert average.module.weight.item() == pytest.approx(initial_share(step, decay, warmup=warmup))
        average.update(step)
