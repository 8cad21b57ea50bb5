"""Global filters as products of real matrices: the same numbers, and no complex one in the graph."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

import hornet_train  # noqa: F401 - registers HorNet
from hornet_train.errors import ConfigError
from hornet_train.export.real_filters import RealFilter, with_real_filters
from hornet_train.models.global_filter import GlobalLocalFilter, filter_globally, has_filters


@pytest.mark.parametrize("size", [(14, 14), (7, 7), (9, 12), (1, 2), (24, 5)])
def test_a_filter_is_the_ffts(size: tuple[int, int]) -> None:
    """Of maps of even and odd sides, from a filter stored on another grid."""
    torch.manual_seed(0)
    layer = GlobalLocalFilter(8, grid=(6, 4)).eval()
    nn.init.normal_(layer.complex_weight)
    real = RealFilter(layer, *size)
    x = torch.randn(3, 8, *size)
    with torch.no_grad():
        v = layer.pre_norm(x).chunk(2, dim=1)[1]
        expected = filter_globally(v.double(), layer.complex_weight.double())
        torch.testing.assert_close(
            real._filtered(v).permute(0, 3, 1, 2).double(), expected, rtol=1e-5, atol=1e-5
        )
        torch.testing.assert_close(real(x, 0.5), layer(x, 0.5), rtol=1e-5, atol=1e-5)


def test_a_whole_model_has_no_complex_number_left() -> None:
    torch.manual_seed(0)
    model = timm.create_model("hornet_pico_gf", num_classes=5).eval()
    for name, weight in model.named_parameters():
        if "gamma" in name:
            nn.init.normal_(weight, std=0.5)
    images = torch.randn(2, 3, 48, 80)
    with torch.no_grad():
        real, expected = with_real_filters(model, images), model(images)
        torch.testing.assert_close(real(images), expected, rtol=1e-5, atol=1e-5)
    assert has_filters(model)
    assert not has_filters(real)
    program = torch.export.export(real, (images,), strict=False)
    kinds = {node.meta["val"].dtype for node in program.graph.nodes if hasattr(node.meta.get("val"), "dtype")}
    assert kinds == {torch.float32}
    assert not [node for node in program.graph.nodes if "fft" in str(node.target)]


class Twice(nn.Module):
    """One filter on maps of two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = GlobalLocalFilter(4, grid=(4, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).sum() + self.layer(x[:, :, ::2]).sum()


def test_a_filter_of_maps_of_two_sizes_is_refused() -> None:
    with pytest.raises(ConfigError, match="the filter layer sees maps of 2 sizes"):
        with_real_filters(Twice().eval(), torch.randn(1, 4, 8, 8))
