"""hornet_train.swap: gnConv in networks of others."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

import hornet_train
from hornet_train.integrations.stand_ins import TokenGnConv
from hornet_train.models.gnconv import GnConv


def gnconvs(model: nn.Module) -> dict[str, GnConv]:
    return {name: module for name, module in model.named_modules() if isinstance(module, GnConv)}


def learns(model: nn.Module, images: torch.Tensor) -> None:
    """Every parameter of a gnConv gets a gradient."""
    model(images).square().mean().backward()
    for name, module in gnconvs(model).items():
        for key, weight in module.named_parameters():
            assert weight.grad is not None, f"{name}.{key}"
            assert weight.grad.abs().sum() > 0, f"{name}.{key}"


@pytest.mark.parametrize("mixer", ["7x7", "gf"])
@pytest.mark.parametrize("size", [64, (72, 104)])
def test_stages_of_a_resnet(mixer: str, size: int | tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=5, zero_init_last=False)
    before = copy.deepcopy(model)
    report = hornet_train.swap(model, ["layer3", "layer4"], order=3, mixer=mixer, image_size=size)
    assert [one.names[0] for one in report.exchanged] == [
        f"layer{stage}.{block}.conv{conv}" for stage in (3, 4) for block in (0, 1) for conv in (1, 2)
    ]
    assert not report.refused
    images = torch.randn(2, 3, *report.image_size)
    assert model(images).shape == (2, 5)
    assert [one.shape for one in timm_features(model, images)] == [
        one.shape for one in timm_features(before, images)
    ]
    learns(model, images)
    after = sum(one.numel() for one in model.parameters())
    assert report.parameters == (sum(one.numel() for one in before.parameters()), after)
    saved = sum(was - now for was, now in (one.parameters for one in report.exchanged))
    assert report.parameters[0] - after == saved > 0
    assert report.macs is not None
    assert report.macs[1] < report.macs[0]
    text = str(report)
    first = "  layer3.0.conv1: conv 3x3, 128 to 256, stride 2 -> mean of 2, gnConv of order 3, 128 to 256"
    assert text.startswith(f"8 layers exchanged\n{first} (294,912 -> ")
    assert "an optimizer that was made before does not know them" in text


def timm_features(model: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    found: list[torch.Tensor] = model.forward_intermediates(images, intermediates_only=True)  # type: ignore[operator]
    return found


def test_token_mixers_of_a_convnext() -> None:
    model = timm.create_model("convnext_atto", num_classes=5).double().eval()
    report = hornet_train.swap(model, "stages.*.conv_dw", order=2, image_size=64)
    found = gnconvs(model)
    assert len(found) == len(report.exchanged) == 12
    assert all(one.proj_in.weight.dtype == torch.float64 and not one.training for one in found.values())
    learns(model, torch.randn(1, 3, 64, 64, dtype=torch.float64))


def test_global_filters_in_the_place_of_attentions() -> None:
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=64)
    report = hornet_train.swap(vit, "blocks.?.attn", mixer="gf", image_size=64)
    assert len(report.exchanged) == 10
    assert vit.blocks[9].attn.gnconv.dwconv.complex_weight.shape[1:3] == (4, 3)
    assert "without the products of queries, keys and values" in str(report)
    learns(vit, torch.randn(2, 3, 64, 64))


def test_attentions_of_a_vit_and_of_a_swin() -> None:
    torch.manual_seed(0)
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=64)
    report = hornet_train.swap(vit, "blocks.*.attn", order=3, image_size=64)
    assert len(report.exchanged) == 12
    mixer = vit.blocks[0].attn
    assert isinstance(mixer, TokenGnConv)
    assert mixer.prefix == 1
    learns(vit, torch.randn(2, 3, 64, 64))
    tokens = torch.randn(2, 17, 192)
    with torch.no_grad():
        out = mixer(tokens)
        other = mixer(torch.cat([tokens[:, :1] + 1, tokens[:, 1:]], dim=1))
        map_ = mixer.gnconv(tokens[:, 1:].transpose(1, 2).reshape(2, 192, 4, 4))
    assert torch.equal(out, other)  # the class token is not mixed into the map
    torch.testing.assert_close(out[:, 1:], map_.flatten(2).transpose(1, 2))
    torch.testing.assert_close(out[:, 0], map_.mean((2, 3)))
    with pytest.raises(ValueError, match="15 tokens are of no square map"):
        mixer(torch.randn(1, 16, 192))

    swin = timm.create_model("swin_tiny_patch4_window7_224", num_classes=5)
    report = hornet_train.swap(swin, "layers.3", order=3)
    assert [one.names[0] for one in report.exchanged] == ["layers.3.blocks.0.attn", "layers.3.blocks.1.attn"]
    learns(swin, torch.randn(1, 3, 224, 224))


class Shared(nn.Module):
    """One convolution in two places, a depthwise one, and some that cannot be exchanged."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 8, 3, padding=1)
        self.second = self.first
        self.dilated = nn.Conv2d(8, 8, 3, padding=2, dilation=2)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.shrinking = nn.Conv2d(8, 8, 3)
        self.even = nn.Conv2d(8, 8, 4, padding=2)
        self.mirrored = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect")
        self.hooked = nn.Conv2d(8, 8, 3, padding=1)
        self.hooked.register_forward_hook(lambda *_: None)
        self.weighed = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3, padding=1))
        self.odd = nn.Conv2d(8, 6, 3, padding=1)
        self.attention = nn.MultiheadAttention(8, 2)
        self.pointwise = nn.Conv2d(8, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1] == 8, "eight channels"
        return self.second(self.first(x))


REASONS = {
    "dilated": "it is dilated by 2x2",
    "grouped": "it has 2 groups, and gnConv mixes all channels",
    "shrinking": "its padding is (0, 0): with 1 it would keep the map",
    "even": "its kernel is 4x4, not square and odd",
    "mirrored": "its padding is reflect",
    "hooked": "it has hooks, which would be lost",
    "weighed": "its weights are parametrised",
    "odd": "gnConv of order 3 halves its width 2 times, so the width must be a multiple of 4, not 6; "
    "the nearest that works is 8",
    "attention": "it is called with queries, keys and values, which gnConv does not take",
}


def test_refusals_say_why_and_shared_layers_stay_shared() -> None:
    model = Shared()
    report = hornet_train.swap(model, "*", order=3)
    assert report.refused == REASONS
    assert [one.names for one in report.exchanged] == [("first", "second")]
    assert model.first is model.second
    assert isinstance(model.first, GnConv)
    assert report.macs is None
    assert (
        "MACs are not counted: it does not take an image of 224x224 (AssertionError: eight channels)"
        in str(report)
    )
    with pytest.raises(ValueError, match="no layer can be exchanged: dilated: it is dilated"):
        hornet_train.swap(model, ["dilated"])
    with pytest.raises(ValueError, match="a global filter needs the size of the map"):
        hornet_train.swap(Shared(), "first", mixer="gf")


def test_a_dry_run_and_a_failure_leave_the_network_as_it_was() -> None:
    model = timm.create_model("resnet18", num_classes=5)
    names, weights = [*model.state_dict()], [*model.parameters()]
    report = hornet_train.swap(model, lambda name, _: name.startswith("layer4"), dry_run=True, image_size=64)
    assert str(report).startswith("4 layers would be exchanged")
    real = copy.deepcopy(model)
    assert hornet_train.swap(real, "layer4", image_size=64).parameters == report.parameters
    for where, message in (
        ("layer9", "'layer9' is no convolution and no attention of this network: did you mean 'layer"),
        ("layer4.0.bn1", "'layer4.0.bn1' is no convolution"),
        (lambda _name, _module: False, "where= holds for no convolution"),
    ):
        with pytest.raises(ValueError, match=message):
            hornet_train.swap(model, where, image_size=64)

    class Asks(nn.Module):
        """Needs an attribute of its convolution."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv(x) + self.conv.bias.sum()

    asks = Asks()
    with pytest.raises(ValueError, match="does not run any more"):
        hornet_train.swap(asks, "conv", image_size=32)
    assert isinstance(asks.conv, nn.Conv2d)
    assert [*model.state_dict()] == names
    assert all(a is b for a, b in zip(model.parameters(), weights, strict=True))
