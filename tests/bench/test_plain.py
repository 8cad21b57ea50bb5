"""HorNet in plain layers is the same function, so that what is timed beside it does the same work."""

from __future__ import annotations

import pytest
import timm
import torch

from hornet_train.bench.contenders import plain_hornet
from hornet_train.images.size import Size, height_width


@pytest.mark.parametrize(
    ("name", "size"),
    [("hornet_pico_7x7", 64), ("hornet_pico_gf", 64), ("hornet_tiny_gf", 64), ("hornet_pico_gf", (32, 80))],
)
def test_the_same_weights_give_the_same_outputs_and_gradients(name: str, size: Size) -> None:
    torch.manual_seed(0)
    ours = timm.create_model(name, img_size=size, layer_scale_init=0.5).double()
    plain = plain_hornet(name, size).double()
    plain.load_state_dict(ours.state_dict())
    images = torch.randn(2, 3, *height_width(size), dtype=torch.float64)
    outputs = [model(images) for model in (ours, plain)]
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-5, atol=1e-6)  # the plain FFT is in float32
    for output in outputs:
        output.square().sum().backward()
    for (key, one), other in zip(ours.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(
            one.grad, other.grad, rtol=1e-4, atol=1e-4, msg=lambda m, k=key: f"{k}: {m}"
        )
