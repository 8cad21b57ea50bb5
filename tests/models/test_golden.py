"""The models compute what the published code computes."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from gpu import DEVICES
from naive import naive_hornet


def relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Largest difference over the reference's largest magnitude."""
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@pytest.mark.parametrize("name", ["hornet_tiny_7x7", "hornet_tiny_gf"])
def test_state_dict_is_the_published_one(name, published_shapes):
    with torch.device("meta"):
        model = timm.create_model(name)
    ours = [(key, list(tensor.shape)) for key, tensor in model.state_dict().items()]
    assert ours == list(published_shapes[name].items())


@pytest.mark.quick
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("name", "size"),
    [("hornet_tiny_7x7", (224, 224)), ("hornet_tiny_gf", (224, 224)), ("hornet_tiny_gf", (256, 320))],
)
def test_outputs_and_gradients_equal_the_reference(name, size, device, filled, fill, reference, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # as our commands do
    height, width = size
    expected = reference(f"{name}_{height}" if height == width else f"{name}_{height}x{width}")
    model = filled(name).to(device)
    with_gradients = "grad_norms" in expected
    with torch.set_grad_enabled(with_gradients):
        last, stages = model.forward_intermediates(fill.image_batch(2, height, width).to(device))
        logits = model.forward_head(last)
    assert relative(logits.detach().cpu().numpy(), expected["logits"]) < 1e-4
    for stage, features in enumerate(stages):
        pixels = features.detach().flatten(2).cpu().numpy()
        assert relative(pixels.mean(-1), expected[f"stage{stage}_mean"]) < 1e-4, stage
        assert relative(pixels.std(-1, ddof=1), expected[f"stage{stage}_std"]) < 1e-4, stage
    if not with_gradients:
        return
    logits.square().mean().backward()
    norms = {key: float(parameter.grad.norm()) for key, parameter in model.named_parameters()}
    assert list(norms) == list(expected["grad_norm_names"])
    np.testing.assert_allclose(list(norms.values()), expected["grad_norms"], rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("hornet_pico_7x7", (32, 32)),
        ("hornet_pico_gf", (32, 32)),
        ("hornet_pico_gf", (47, 33)),  # neither square nor a multiple of anything
        ("hornet_pico_gf", (16, 90)),  # the last map has one row
    ],
)
def test_the_network_equals_the_naive_one_at_any_size(name, size, filled):
    model = filled(name, num_classes=7, dtype=torch.float64)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = naive_hornet(model, x.numpy(), (2, 3, 4, 5), 1 / 3)
    np.testing.assert_allclose(model(x).detach().numpy(), expected, rtol=1e-8, atol=1e-10)
