"""Grey models: what they see, and which statistics they are given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from configs import compose_train
from PIL import Image
from torch import Tensor

from hornet_train.errors import ConfigError
from hornet_train.tasks.classification.build.channels import channel_notes, colour_of
from hornet_train.tasks.classification.build.components import build_task
from hornet_train.tasks.classification.task import Classification

GREY = ["model=hornet_pico_7x7", "data=synthetic", "model.in_chans=1", "augment=none"]


def task_of(*overrides: str) -> Classification:
    return build_task(compose_train([*GREY, *overrides]).config, 5)


def batch_of(height: int, width: int) -> tuple[dict[str, Tensor], Tensor]:
    """A batch as the loader gives it, and what Pillow makes of it in grey."""
    pixels = np.random.default_rng(3).integers(0, 256, (4, height, width, 3)).astype(np.uint8)
    grey = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in pixels])[:, None]
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    return {"image": images, "label": torch.tensor([0, 4, 2, 2])}, torch.from_numpy(grey)


def test_a_step_on_a_long_grey_image_is_plain_torchs() -> None:
    """Loss, gradients and evaluation of 32 x 48 pixels, from Pillow's grey on."""
    task = task_of(
        "data.mean=[0.4]", "data.std=[0.25]", "task.label_smoothing=0.1", "data.image_size=[32,48]"
    )
    batch, grey = batch_of(32, 48)
    torch.manual_seed(0)
    model = task.build_model()
    assert model.state_dict()["downsample_layers.0.0.weight"].shape == (16, 1, 2, 2)
    loss = task.loss(model, batch, np.random.default_rng(0)).mean
    loss.backward()
    grads = [parameter.grad.clone() for parameter in model.parameters()]
    model.zero_grad()
    theirs = F.cross_entropy(model((grey / 255 - 0.4) / 0.25), batch["label"], label_smoothing=0.1)
    theirs.backward()
    assert loss.item() == pytest.approx(theirs.item(), rel=1e-6)
    for ours, parameter in zip(grads, model.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad, rtol=1e-4, atol=1e-6)
    with torch.no_grad():
        seen = task.probabilities(model, batch)
        torch.testing.assert_close(seen, model((grey / 255 - 0.4) / 0.25).softmax(1))


def test_statistics_of_rgb_are_averaged_and_told() -> None:
    task, config = task_of(), compose_train(GREY).config
    assert task.normalize.mean == pytest.approx((0.449,))
    assert task.normalize.std == pytest.approx((0.226,))
    (note,) = channel_notes(config)
    assert note.startswith(
        "model.in_chans=1: data.mean and data.std are those of red, green and blue, averaged"
    )
    assert note.endswith("data.mean=[0.449] data.std=[0.226]")
    assert channel_notes(compose_train([*GREY, "data.mean=0.449", "data.std=[0.226]"]).config) == []
    assert channel_notes(compose_train(["data=digits", "model.in_chans=1"]).config) == []  # equal ones
    assert colour_of(compose_train([*GREY, "data.mean=[0.2]"]).config.data) == (51, 51, 51)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.in_chans=4"], r"^model\.in_chans=4: pictures are decoded to red, green and blue.* or 1 for"),
        (["model.in_chans=2"], r"^model\.in_chans=2: "),
        (["model.in_chans=0"], r"^model\.in_chans=0: "),
        (["model.in_chans=1", "data.mean=[0.5,0.5]"], r"^data\.mean=\[0\.5, 0\.5\]: .* asks for one value$"),
        (["data.std=[0.5]"], r"^data\.std=\[0\.5\]: model\.in_chans=3 asks for three values"),
        (["data.mean=[1,1,1,1]"], r"^data\.mean=.* asks for three values"),
    ],
)
def test_other_counts_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_train(["data=synthetic", *overrides])
