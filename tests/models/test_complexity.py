"""Counts of parameters and MACs: the published ones, to the unit where it is known; the paper's bound."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hornet_train.models import GnConv
from hornet_train.models.complexity import count, gnconv_bound
from hornet_train.models.published import PUBLISHED
from hornet_train.models.variants import VARIANTS

# Of the published code: parameters (1000 classes); GMACs of conv and linear layers, and as its counter has
# them, at 224 and at 384 pixels
FAMILY = {
    "hornet_tiny_7x7": (22_409_512, 3.9684, 3.9767, 11.6612, 11.6855),
    "hornet_tiny_gf": (22_991_848, 3.8887, 3.9139, 11.4270, 11.5042),
    "hornet_small_7x7": (49_528_264, 8.8140, 8.8264, 25.9008, 25.9373),
    "hornet_small_gf": (50_401_768, 8.6944, 8.7343, 25.5495, 25.6713),
    "hornet_base_7x7": (87_256_680, 15.5671, 15.5837, 45.7464, 45.7950),
    "hornet_base_gf": (88_421_352, 15.4078, 15.4609, 45.2780, 45.4404),
    "hornet_base_gf_img384": (92_099_560, 15.4078, 15.4609, 45.2780, 45.4404),
    "hornet_large_7x7": (194_542_504, 34.7963, 34.8211, 102.2554, 102.3284),
    "hornet_large_gf": (196_289_512, 34.5572, 34.6411, 101.5529, 101.8087),
    "hornet_large_gf_img384": (201_806_824, 34.5572, 34.6411, 101.5529, 101.8087),
}
# Of the isotropic structure with layer scale: millions of parameters, GMACs of conv and linear layers at 224
ISOTROPIC = {
    "hornet_iso_small_7x7": (21.84, 4.19),
    "hornet_iso_small_gf": (22.47, 4.11),
    "hornet_iso_base_7x7": (84.96, 16.47),
    "hornet_iso_base_gf": (86.22, 16.31),
}
# mmpretrain counts the backbone without its head and final norm, to the unit
BACKBONES = {
    "hornet_tiny_7x7": 3_976_156_352,
    "hornet_small_7x7": 8_825_621_280,
    "hornet_base_7x7": 15_582_677_376,
}


def test_the_table_has_the_whole_family():
    assert set(VARIANTS) == {*FAMILY, *ISOTROPIC, "hornet_pico_7x7", "hornet_pico_gf"}
    assert set(PUBLISHED) == set(FAMILY)


@pytest.mark.parametrize("name", FAMILY)
def test_parameters_and_macs_are_the_published_ones(name):
    model = timm.create_model(name, device="meta")
    small, large = count(model, 224), count(model, 384)
    figures = (small.macs, small.published_macs, large.macs, large.published_macs)
    assert (small.parameters, *(round(figure / 1e9, 4) for figure in figures)) == FAMILY[name]
    printed = PUBLISHED[name].gmacs
    assert printed is None or abs(small.published_macs / 1e9 - printed) < 0.06  # the README rounds up once


@pytest.mark.parametrize("name", BACKBONES)
def test_counts_agree_to_the_unit(name):
    model = timm.create_model(name, device="meta")
    head = 1000 * model.num_features + 5 * model.num_features
    assert count(model, 224).published_macs - head == BACKBONES[name]


@pytest.mark.parametrize("name", ISOTROPIC)
def test_the_isotropic_structure_costs_what_was_computed_for_it(name):
    cost = count(timm.create_model(name, device="meta", layer_scale_init=1e-6), 224)
    assert (round(cost.parameters / 1e6, 2), round(cost.macs / 1e9, 2)) == ISOTROPIC[name]
    without = count(timm.create_model(name, device="meta"), 224)
    width = VARIANTS[name].dim
    assert cost.parameters - without.parameters == 2 * width * 12


def test_large_models_with_the_22k_head_have_the_published_millions():
    for name in ("hornet_large_7x7", "hornet_large_gf", "hornet_large_gf_img384"):
        cost = count(timm.create_model(name, device="meta", num_classes=10_459), 224)
        assert round(cost.parameters / 1e6) == PUBLISHED[name].parameters


def test_other_grids_have_other_counts():
    for name, parameters in (("hornet_tiny_gf", 24_830_952), ("hornet_small_gf", 53_160_424)):
        model = timm.create_model(name, device="meta", img_size=384)
        assert sum(parameter.numel() for parameter in model.parameters()) == parameters


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    order=st.integers(1, 6),
    base=st.integers(1, 24),
    kernel=st.sampled_from([1, 3, 5, 7, 9, 11]),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
)
def test_gnconv_keeps_the_papers_bound(order, base, kernel, height, width):
    dim = base * 2 ** (order - 1)
    model = nn.Sequential(GnConv(dim, order=order, mixer=kernel, device="meta"))
    cost = count(model, (height, width), in_chans=dim)
    total = cost.macs_of("0") + cost.gate_products["0"]
    assert cost.macs_of("0") == cost.macs
    assert total <= gnconv_bound(dim, kernel) * height * width
    if order == 6:  # and the bound is the limit
        assert total > 0.93 * gnconv_bound(dim, kernel) * height * width


def test_parts_add_up():
    model = timm.create_model("hornet_pico_gf", device="meta")
    cost = count(model, (40, 48))
    parts = [f"downsample_layers.{i}" for i in range(4)] + [f"stages.{i}" for i in range(4)] + ["head"]
    assert sum(cost.macs_of(part) for part in parts) == cost.macs
    assert cost.output_sizes["stages.2"] == (5, 6)


def test_counting_changes_nothing_and_takes_any_model():
    model = timm.create_model("resnet18").train()
    before = copy.deepcopy(model.state_dict())
    assert count(model, (224, 224)).macs == 1_814_073_344
    assert all(module.training for module in model.modules())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_modules_and_weights_in_several_places_stay_where_they_are() -> None:
    """As in timm's CoaT, whose blocks share their position encodings."""
    shared = nn.Conv2d(4, 4, 3, padding=1)
    tied = nn.Conv2d(4, 4, 3, padding=1)
    tied.weight = shared.weight
    model = nn.Sequential(nn.Conv2d(3, 4, 1), shared, shared, tied, nn.BatchNorm2d(4))
    before = dict(model.state_dict(keep_vars=True))
    found = count(model, 8)
    after = dict(model.state_dict(keep_vars=True))
    assert all(after[name] is value for name, value in before.items())
    assert after["1.weight"] is after["2.weight"] is after["3.weight"]
    assert found.macs == 64 * (3 * 4 + 3 * 9 * 16)
    assert found.parameters == (3 * 4 + 4) + (9 * 16 + 4) + 4 + 8
