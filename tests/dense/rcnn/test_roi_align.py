"""RoIAlign beside torchvision's operator, and the published features."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import roi_align as of_torchvision

from hornet_train.dense.rcnn.roi_align import align, roi_align

Reference = Callable[[str], Mapping[str, np.ndarray]]


@st.composite
def regions(draw: Any) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Maps of two images, and boxes in and around them: some as large as all, some without area."""
    channels, height, width = draw(st.integers(1, 70)), draw(st.integers(1, 30)), draw(st.integers(1, 30))
    stride = draw(st.sampled_from([1, 4, 16]))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    maps = rng.standard_normal((2, channels, height, width))
    number = draw(st.integers(1, 12))
    extent = np.array([width, height]) * stride
    corner = (rng.random((number, 2)) * 1.6 - 0.3) * extent
    size = rng.random((number, 2)) * extent * rng.choice([0.0, 0.1, 1.0, 1.5], (number, 1))
    size[: draw(st.integers(0, 2))] *= -0.1
    rois = np.hstack([rng.integers(0, 2, (number, 1)), corner, corner + size])
    return torch.from_numpy(maps).float(), torch.from_numpy(rois).float(), 1 / stride


@settings(max_examples=80, deadline=None)
@given(regions(), st.sampled_from([1, 2, 7, 14]))
def test_values_and_gradients_are_those_of_samples(
    given: tuple[torch.Tensor, torch.Tensor, float], side: int
) -> None:
    maps, rois, scale = given
    ours, theirs = maps.clone().requires_grad_(), maps.clone().requires_grad_()
    found = roi_align(ours, rois, side, scale)
    known = of_torchvision(theirs, rois, side, scale, 0, aligned=True)
    torch.testing.assert_close(found, known, rtol=1e-4, atol=2e-5)
    weights = torch.randn(known.shape, generator=torch.Generator().manual_seed(0))
    found.backward(weights)
    known.backward(weights)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-4)


def test_features_are_the_published_ones(reference: Reference) -> None:
    stored = reference("dense/det_heads")
    levels = [
        torch.from_numpy(np.random.RandomState(404).standard_normal((1, 2, 96 >> i, 128 >> i))).float()
        for i in range(4)
    ]
    rois = torch.nn.functional.pad(torch.from_numpy(stored["rois"]), (1, 0))
    for side, kept in ((7, stored["roi_feats7"]), (14, stored["roi_feats14_first4"])):
        for number in range(len(kept)):
            level = int(stored["roi_levels"][number])
            found = roi_align(levels[level], rois[number : number + 1], side, 1 / (4 << level))
            np.testing.assert_allclose(found[0], kept[number], rtol=1e-4, atol=1e-5)


def test_threads_and_memory_formats_make_no_difference() -> None:
    maps = torch.randn(2, 130, 20, 25)
    rois = torch.cat(
        [torch.tensor([[0.0], [1.0]]).repeat(20, 1), torch.rand(40, 2) * 40, 40 + torch.rand(40, 2) * 50], 1
    )
    threads, found = torch.get_num_threads(), []
    try:
        for number, memory in ((1, torch.channels_last), (3, torch.contiguous_format)):
            torch.set_num_threads(number)
            one = maps.clone(memory_format=memory).requires_grad_()
            bins = roi_align(one, rois, 7, 0.25)
            bins.square().sum().backward()
            assert one.grad is not None
            found.append((bins.detach(), one.grad))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_no_regions_and_other_types() -> None:
    maps = torch.randn(1, 5, 9, 9, requires_grad=True)
    assert roi_align(maps, torch.zeros(0, 5), 7, 0.5).shape == (0, 5, 7, 7)
    half = roi_align(maps.bfloat16(), torch.tensor([[0.0, 1, 1, 9, 9]]), 7, 0.5)
    assert half.dtype == torch.bfloat16


def test_regions_of_half_precision_are_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU: boxes of a large picture are not rounded to what bfloat16 can hold."""
    monkeypatch.setattr("hornet_train.dense.rcnn.roi_align._AVAILABLE", False)
    maps = torch.randn(1, 4, 300, 300).bfloat16()
    rois = torch.tensor([[0, 1001.3, 601.7, 1051.3, 651.7]])
    known = of_torchvision(maps.float(), rois, 7, 0.25, 0, aligned=True)
    torch.testing.assert_close(roi_align(maps, rois, 7, 0.25).float(), known, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("check", ["test_schema", "test_faketensor", "test_autograd_registration"])
def test_torch_knows_the_operator(check: str) -> None:
    maps, boxes = torch.randn(2, 3, 9, 8, requires_grad=True), torch.rand(4, 4) * 5
    found = torch.library.opcheck(align, (maps, boxes, torch.tensor([0, 1, 1, 0]), 3), test_utils=check)
    assert found == {check: "SUCCESS"}
