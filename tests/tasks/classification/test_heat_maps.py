"""Heat lies where the class is."""

from __future__ import annotations

import pytest
import timm
import torch
from configs import compose_train
from torch import Tensor, nn

from hornet_train.errors import ConfigError
from hornet_train.tasks.classification.build.components import build_task
from hornet_train.tasks.classification.heat_maps import heat_maps, last_maps


class Bright(nn.Module):
    """Maps of a quarter of the image's size; class 0: how bright it is, class 1: how dark."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_info = [{"module": "maps", "num_chs": 2}]
        self.maps = nn.Conv2d(3, 2, 4, stride=4, bias=False)
        nn.init.constant_(self.maps.weight[0], 0.1)
        nn.init.constant_(self.maps.weight[1], -0.1)

    def forward(self, x: Tensor) -> Tensor:
        return self.maps(x).relu().mean((2, 3))


@pytest.mark.parametrize("method", ["layercam", "eigencam"])
def test_heat_is_where_the_bright_pixels_are(method: str) -> None:
    task = build_task(compose_train(["model=hornet_pico_7x7", "data=synthetic"]).config, 2)
    pixels = torch.full((2, 3, 32, 48), 110, dtype=torch.uint8)
    pixels[0, :, 4:12, 8:16] = 250
    pixels[1, :, 20:28, 32:40] = 250
    before, model = pixels.clone(), Bright().eval()
    with torch.inference_mode():
        found = heat_maps(task, model, {"image": pixels}, [0, 0], method)
    assert torch.equal(pixels, before)
    for picture, shown, (top, left) in zip(pixels, found, [(4, 8), (20, 32)], strict=True):
        assert shown.shape == (32, 48, 3)
        changed = abs(shown.astype(int) - picture.permute(1, 2, 0).numpy()).sum(2)
        row, column = divmod(int(changed.argmax()), 48)
        assert top - 2 <= row < top + 10
        assert left - 2 <= column < left + 10


def test_the_last_maps_of_models() -> None:
    images = torch.randn(1, 3, 32, 32)
    for name, module in (("hornet_pico_gf", "stages.3"), ("resnet18", "layer4")):
        model = timm.create_model(name, num_classes=3).eval()
        assert last_maps(model, images) is model.get_submodule(module)
    with pytest.raises(ConfigError, match="has no last maps"):
        last_maps(timm.create_model("vit_tiny_patch16_224", img_size=32), images)
    with pytest.raises(ConfigError, match="Sequential has no last maps"):
        last_maps(nn.Sequential(), images)
