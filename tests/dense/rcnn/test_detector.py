"""A whole detector on backbones of several strides, and on a GPU."""

from __future__ import annotations

import pytest
import torch
from gpu import NEEDS_GPU

from hornet_train.dense.backbone import build_backbone, features_of
from hornet_train.dense.rcnn.detector import Detector
from hornet_train.dense.rcnn.regions import Objects

SMALL = {"dim": 8, "depths": [1, 1, 1, 1]}


@pytest.mark.parametrize("stem", [2, 4])
def test_anchors_and_regions_lie_where_the_maps_are(stem: int) -> None:
    """The maps are the backbone's own: every level covers the picture, and a region's features are those of
    its place, whatever the strides."""
    backbone = build_backbone("hornet_pico_7x7", stem_stride=stem, **SMALL)
    detector = Detector(backbone, 3, channels=8, width=16).eval()
    levels = detector.neck(features_of(backbone, torch.zeros(1, 3, 64, 128)))
    sizes = [(one.shape[2], one.shape[3]) for one in levels]
    anchors = detector.rules.rpn.anchors
    strides = tuple(stem << level for level in range(5))
    assert tuple(anchors.strides) == strides
    assert detector.roi_head.strides == strides[:4]
    for level, (height, width) in enumerate(sizes):
        centres = anchors.of_levels(sizes, torch.device("cpu"))[level].view(-1, 2, 2).mean(1)
        last = [(width - 1) * strides[level], (height - 1) * strides[level]]
        assert centres.amax(0).tolist() == pytest.approx(last, abs=1e-3)
        assert (width * strides[level], height * strides[level]) == (128, 64)


def test_a_backbone_of_other_strides_is_refused() -> None:
    backbone = build_backbone("hornet_pico_7x7", stem_stride=8, img_size=64, **SMALL)
    with pytest.raises(ValueError, match="strides 8, 16, 32, 64; a detector needs 4, 8, 16 and 32, or 2"):
        Detector(backbone, 3)


@pytest.mark.parametrize("mixer", [pytest.param(mixer, marks=NEEDS_GPU) for mixer in ("conv", "7x7", "gf")])
@pytest.mark.parametrize("cascade", [False, True])
def test_a_gpu_has_the_losses_of_a_cpu(mixer: str, cascade: bool) -> None:
    """The same draws, so nearly the same losses and gradients; and it finds something."""
    torch.manual_seed(0)
    backbone = build_backbone("hornet_pico_7x7", stem_stride=4, **SMALL)
    detector = Detector(backbone, 3, mixer=mixer, cascade=cascade, channels=16, width=32)  # type: ignore[arg-type]
    boxes = torch.tensor([[8.0, 8.0, 40.0, 40.0], [30.0, 20.0, 90.0, 60.0]])
    masks = torch.zeros(2, 64, 96, dtype=torch.uint8)
    masks[0, 8:40, 8:40] = masks[1, 20:60, 30:90] = 1
    images, labels = torch.randn(2, 3, 64, 96), torch.tensor([0, 2])
    found = []
    for device in ("cpu", "cuda"):
        detector = detector.to(device).train()
        objects = [Objects(*(one.to(device) for one in (boxes, labels, masks)))] * 2
        losses = detector(images.to(device), [(64, 96)] * 2, objects, [1, 2])
        total = torch.stack([(one.total / one.items).mean() for one in losses.values()]).sum()
        total.backward()
        norms = [one.grad.norm().item() for one in detector.parameters() if one.grad is not None]
        found.append((total.item(), sum(norms)))
        detector.zero_grad()
    assert found[1] == pytest.approx(found[0], rel=2e-2)
    with torch.inference_mode():
        ((kept, shares), _) = detector.eval()(images.cuda(), [(64, 96)] * 2)
    assert kept.boxes.device.type == "cuda"
    assert len(kept.boxes) > 0
    assert shares.shape[1:] == (28, 28)
