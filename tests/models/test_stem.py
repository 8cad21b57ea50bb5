"""The first convolution for images of other channels: timm's rule, and what is refused."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.models import adapt_input_conv
from torch import Tensor

from hornet_train.errors import CheckpointError
from hornet_train.models.stem import fit_stem, stem_name, takes_channels
from hornet_train.models.weights import identify, load_into

NAME = "hornet_pico_7x7"


def model_of(channels: int, name: str = NAME) -> torch.nn.Module:
    torch.manual_seed(channels)
    return timm.create_model(name, num_classes=3, in_chans=channels).eval()


@pytest.mark.parametrize("name", [NAME, "resnet10t", "test_vit"])
@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_weights_of_rgb_are_adapted_as_in_timm(name: str, channels: int) -> None:
    state = model_of(3, name).state_dict()
    model = model_of(channels, name)
    stem = stem_name(model)
    assert stem is not None
    (note,) = load_into(model, state, adapt_stem=True, classifier=model.pretrained_cfg["classifier"])
    assert "over the 3 channels" in note if channels == 1 else f"of 3 channels for {channels}" in note
    expected = {**state, stem: adapt_input_conv(channels, state[stem])}
    torch.testing.assert_close(model.state_dict(), expected)


def test_grey_weights_see_in_equal_channels_what_they_saw() -> None:
    grey, colour = model_of(1), model_of(3)
    (note,) = load_into(colour, grey.state_dict(), adapt_stem=True)
    assert note == "repeated the first convolution's weights of one channel for 3, times 1/3"
    images = torch.randn(2, 1, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(colour(images.expand(-1, 3, -1, -1)), grey(images), rtol=1e-4, atol=1e-5)


def test_an_evaluation_does_not_adapt_but_says_the_key() -> None:
    model = model_of(1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"images of other channels: model\.in_chans=3$"):
        load_into(model, model_of(3).state_dict())
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    with pytest.raises(CheckpointError, match="misshapen"):  # neither grey nor RGB: which of five?
        load_into(model_of(4), model_of(5).state_dict(), adapt_stem=True)


def test_what_is_no_convolution_of_the_same_kernel_is_left_alone() -> None:
    wanted = {"stem": torch.zeros(8, 1, 4, 4)}
    for odd in (
        torch.zeros(8, 3, 2, 2),
        torch.zeros(9, 3, 4, 4),
        torch.zeros(8, 48),
        torch.zeros(8, 1, 4, 4),
    ):
        given: dict[str, Tensor] = {"stem": odd}
        assert fit_stem(given, wanted, "stem") == []
        assert given["stem"] is odd
    assert fit_stem({}, wanted, "stem") == fit_stem({"stem": wanted["stem"]}, {}, None) == []


def test_half_precision_is_summed_in_float() -> None:
    weight = torch.full((1, 3, 1, 1), 0.1, dtype=torch.bfloat16)
    given = {"stem": weight}
    fit_stem(given, {"stem": torch.zeros(1, 1, 1, 1)}, "stem")
    assert torch.equal(given["stem"], weight.float().sum(1, keepdim=True).bfloat16())


def test_a_model_is_known_whatever_its_channels() -> None:
    assert identify(model_of(1).state_dict()) == NAME
    assert identify(model_of(6).state_dict()) == NAME
    assert takes_channels(model_of(5), 5)
    assert not takes_channels(model_of(3), 1)
    assert takes_channels(torch.nn.Linear(2, 2), 1)  # which says nothing of it
